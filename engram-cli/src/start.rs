//! `engram start`: the glue between the command line, the engine and the server.
//!
//! The address is bound and announced before the log is read, so that `/livez` answers from the
//! first moment and `/readyz` tells how far recovery is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engram_core::embedder::Embedder;
use engram_core::metrics::{Metrics, schema};
use engram_core::{Options, Store};
use engram_server::{Config, MetricsExporter, Opening, Server};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::StartArgs;
use crate::failure::{Failure, Outcome};
use crate::{embedder, engine, logging, out, settings};

/// `engram start`.
pub(crate) fn start(args: StartArgs, settings_file: Option<&Path>) -> Outcome {
    let dir = settings::data_dir(args.data.data.as_deref())?;
    let embedder = embedder::of(&args.embedder)?;
    logging::init(args.log, args.log_level);
    if let Some(file) = settings_file {
        tracing::info!(file = %file.display(), "read settings");
    }
    let shown = std::path::absolute(&dir).unwrap_or_else(|_| dir.clone());
    tracing::info!(dir = %shown.display(), version = env!("CARGO_PKG_VERSION"), "data directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .map_err(|e| Failure::failed(format!("cannot start the server's threads: {e}")))
        .and_then(|runtime| runtime.block_on(serve(args, embedder, dir)))
        .map_err(logged)
}

/// Says a failure where the other events are, and in their form.
fn logged(failure: Failure) -> Failure {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return failure;
    }
    tracing::error!("{}", failure.message());
    failure.told()
}

async fn serve(args: StartArgs, embedder: Option<Arc<dyn Embedder>>, dir: PathBuf) -> Outcome {
    let mut signals =
        Signals::new().map_err(|e| Failure::failed(format!("cannot listen for signals: {e}")))?;
    let listen = args.listen.clone();
    let server = Server::bind(Config { listen: listen.clone(), ..Config::default() })
        .await
        .map_err(|e| cannot_listen(&listen, &e))?;
    let address = server.local_addr();
    let (metrics, opening) = opening(&args, embedder, dir);
    let shutdown = async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        notify(&[NotifyState::Stopping]);
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::warn!(signal = name, "ended at once; the next start recovers");
            std::process::exit(1);
        });
    };
    // The socket listens already: a client that connects now is answered by the next line.
    if let Err(failure) = out::line(&format!("listening on http://{address}")) {
        // A memory goes on when nobody reads where it listens.
        tracing::info!(%address, problem = failure.message(), "cannot print the address");
    }
    server.serve(opening, metrics, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// How the store is opened, and where its figures go.
fn opening(
    args: &StartArgs,
    embedder: Option<Arc<dyn Embedder>>,
    dir: PathBuf,
) -> (MetricsExporter, Opening) {
    let exporter = MetricsExporter::new(schema::ALL.iter().map(|f| (f.name, f.buckets)));
    let metrics = Arc::new(Metrics::new(exporter.recorder()));
    let options = Options { metrics, embedder, ..engine::options(args) };
    let progress = options.progress.clone();
    let open = move || {
        let store = Store::open(dir, options)?;
        notify(&[NotifyState::Ready]);
        Ok(store)
    };
    let durability = args.durability.to_string();
    (exporter, Opening { open: Box::new(open), progress, durability })
}

fn cannot_listen(listen: &str, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it; stop that, or choose another --listen",
        io::ErrorKind::PermissionDenied => "choose a port above 1023 with --listen",
        _ => "choose another --listen HOST:PORT",
    };
    Failure::failed(format!("cannot listen on {listen}: {error}; {next}"))
}

/// Tells systemd, where it listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// The signals that ask for a stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for the first signal that asks for a stop.
pub(crate) async fn signalled() -> io::Result<&'static str> {
    Ok(Signals::new()?.next().await)
}
