//! Listens, serves, and stops without cutting off what it accepted.
//!
//! Connections are served by hyper, in a loop of our own, for the sake of a time limit on
//! heads and of a bound on connections that gives way to newcomers. Deliberately absent: TLS and
//! HTTP/2 (a proxy's work), signals (the caller gives `shutdown`), and any word on stdout.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engram_core::store::RecoveryProgress;
use engram_core::{Error, Result, Store};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::app::App;
use crate::config::Config;
use crate::connections::{Connections, serve_connection};
use crate::exporter::MetricsExporter;
use crate::routes::Router;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Connections over the bound that may be open while idle ones are on their way out.
const CONNECTIONS_LEAVING_MAX: usize = 64;
/// How long accepting rests after it failed, say for want of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often samples are moved into their histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How to get the store, while requests are answered already.
pub struct Opening {
    /// Opens the store; runs on a thread of its own.
    pub open: Box<dyn FnOnce() -> Result<Store> + Send>,
    /// What it tells about its progress.
    pub progress: Arc<RecoveryProgress>,
    /// The durability that will be in force, as the command line writes it.
    pub durability: String,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// A server that listens, and is about to serve.
#[derive(Debug)]
pub struct Server {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address. From here on clients can connect; they are answered once
    /// [`Server::serve`] runs. Raises the process's soft limit of descriptors to the hard one.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(mut config: Config) -> io::Result<Self> {
        let descriptors = raise_descriptor_limit();
        // A quarter is for the log's files.
        config.connections_max = config.connections_max.clamp(1, (descriptors / 4 * 3).max(1));
        let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "no such host");
        let addresses: Vec<SocketAddr> = lookup_host(&config.listen).await?.collect();
        for address in addresses {
            match listen(address) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    return Ok(Self { config, listener, address });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The address that it has, with the port that was really taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done: opens the store beside, then stops accepting, finishes
    /// what was accepted (waiting no longer than `shutdown_timeout` for clients that stall), and
    /// closes the store.
    ///
    /// # Errors
    /// When the store cannot be opened or closed. A gap in the log is no error if the
    /// configuration says to stay: it is logged, and `/readyz` tells of it until `shutdown`.
    pub async fn serve(
        self,
        opening: Opening,
        metrics: MetricsExporter,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let app = App::new(self.config, metrics, opening.durability, opening.progress);
        let opened = open_beside(app.clone(), opening.open);
        let connections = Connections::new(app.metrics());
        let mut tasks = JoinSet::new();
        let outcome =
            accept_until(&app, &self.listener, &connections, &mut tasks, opened, shutdown).await;
        app.close();
        drop(self.listener);
        connections.leave_all();
        let finish = async { while tasks.join_next().await.is_some() {} };
        if timeout(app.config().shutdown_timeout, finish).await.is_err() {
            tracing::warn!(
                connections = tasks.len(),
                "clients stalled for longer than the shutdown waits; their connections are cut"
            );
            tasks.shutdown().await;
        }
        let closed = match app.open_store().cloned() {
            Some(store) => tokio::task::spawn_blocking(move || store.close())
                .await
                .unwrap_or_else(|_| Err(defect("close"))),
            None => Ok(()),
        };
        outcome.and(closed)
    }
}

/// Accepts connections until `shutdown`, or until the store cannot be opened.
async fn accept_until(
    app: &App,
    listener: &TcpListener,
    connections: &Arc<Connections>,
    tasks: &mut JoinSet<()>,
    opened: oneshot::Receiver<Result<()>>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let router = Router::new(app.clone());
    let mut shutdown = pin!(shutdown);
    let mut opened = pin!(opened);
    let mut opening = true;
    let mut failing = false;
    let mut upkeep = interval(UPKEEP_INTERVAL);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let bound = app.config().connections_max;
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            told = &mut opened, if opening => {
                opening = false;
                match told.unwrap_or_else(|_| Err(defect("open"))) {
                    Ok(()) => {}
                    Err(error) if stays(app, &error) => {
                        tracing::error!(%error, "not ready; serving /readyz until stopped");
                    }
                    failed => return failed,
                }
            }
            _ = upkeep.tick() => app.metrics().upkeep(),
            Some(_) = tasks.join_next() => {}
            accepted = accept(listener, failing), if tasks.len() < bound + CONNECTIONS_LEAVING_MAX =>
            {
                match accepted {
                    Ok(stream) => {
                        failing = false;
                        if tasks.len() >= bound {
                            connections.leave_idlest();
                        }
                        let connection = connections.enter();
                        let config = app.config();
                        tasks.spawn(serve_connection(stream, connection, router.clone(), config));
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(%error, "cannot accept a connection; trying again");
                        }
                        failing = true;
                        connections.leave_idlest();
                    }
                }
            }
        }
    }
}

/// Waits for a connection; for a moment longer when the last try failed.
async fn accept(listener: &TcpListener, failing: bool) -> io::Result<TcpStream> {
    if failing {
        sleep(ACCEPT_BACKOFF).await;
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            // The client was gone before it was accepted: nothing that concerns others.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens the store on a thread of its own, which a shutdown need not wait for: recovery may be
/// interrupted anywhere.
fn open_beside(
    app: App,
    open: Box<dyn FnOnce() -> Result<Store> + Send>,
) -> oneshot::Receiver<Result<()>> {
    let (tell, told) = oneshot::channel();
    let work = move || {
        let outcome = open();
        let told = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        app.opened(outcome);
        // Nobody listens any more when the shutdown came first.
        drop(tell.send(told));
    };
    if let Err(error) = std::thread::Builder::new().name("engram-open".into()).spawn(work) {
        // Dropping the closure drops the sender, which is told as a failure to open.
        tracing::error!(%error, "cannot start the thread that opens the store");
    }
    told
}

/// Whether only an operator can decide how to go on, so that serving the reason helps.
fn stays(app: &App, error: &Error) -> bool {
    let gap = matches!(error, Error::Missing { .. } | Error::Unreadable { .. });
    gap && app.config().stay_when_log_has_gap
}

fn defect(action: &'static str) -> Error {
    let cause = "a defect in the program; the log tells more".into();
    Error::Io { action, path: PathBuf::from("the store"), cause }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the process's soft limit of descriptors to the hard one; gives the limit then in force.
#[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
pub fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    in_force.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}
