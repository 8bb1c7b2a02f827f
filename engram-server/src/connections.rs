//! The connections that are open: each is served here, and can be asked to leave.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Gauge, Key};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::Config;
use crate::exporter::{HTTP_CONNECTIONS, METADATA, MetricsExporter};
use crate::routes::Router;

/// Largest head of a request, and the piece that a body comes in, in bytes.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// How long a connection that was asked to leave may stay with no request and no answer under way.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// All open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<BTreeMap<u64, Arc<State>>>,
    next: AtomicU64,
    gauge: Gauge,
}

impl State {
    fn idles(&self) -> bool {
        !self.busy.load(Ordering::Relaxed) && !self.unsent.load(Ordering::Relaxed)
    }
}

/// A stream that says of its connection whether it waits to be written to.
struct Watched {
    stream: TokioIo<TcpStream>,
    connection: Arc<Connection>,
}

impl Watched {
    fn told<T>(&self, poll: Poll<T>) -> Poll<T> {
        self.connection.state.unsent.store(poll.is_pending(), Ordering::Relaxed);
        poll
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.told(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Whether a request is being handled.
    busy: AtomicBool,
    /// Whether an answer waits for its reader; the kernel ends those whose reader is gone.
    unsent: AtomicBool,
    /// The tick of the last sign of life; the smallest is the idlest.
    used: AtomicU64,
    leave: Notify,
}

/// One open connection; it is off the list when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    state: Arc<State>,
    all: Arc<Connections>,
}

impl Connections {
    pub(crate) fn new(metrics: &MetricsExporter) -> Arc<Self> {
        let gauge = metrics.recorder().register_gauge(&Key::from_name(HTTP_CONNECTIONS), &METADATA);
        Arc::new(Self { open: Mutex::default(), next: AtomicU64::new(0), gauge })
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Connection {
        let id = self.tick();
        let state = Arc::new(State { used: AtomicU64::new(id), ..State::default() });
        self.open().insert(id, Arc::clone(&state));
        self.gauge.increment(1.0);
        Connection { id, state, all: Arc::clone(self) }
    }

    /// Asks the connection that idles longest to leave, if any idles.
    pub(crate) fn leave_idlest(&self) {
        let mut open = self.open();
        let idle = open.iter().filter(|(_, state)| state.idles());
        let idlest = idle.min_by_key(|(_, state)| state.used.load(Ordering::Relaxed));
        // Off the list, so that the next one to be asked is another.
        if let Some(id) = idlest.map(|(id, _)| *id)
            && let Some(state) = open.remove(&id)
        {
            state.leave.notify_one();
        }
    }

    /// Asks all to leave when they have answered what they are at.
    pub(crate) fn leave_all(&self) {
        for state in self.open().values() {
            state.leave.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Connection {
    fn begin(&self) {
        self.state.busy.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.state.used.store(self.all.tick(), Ordering::Relaxed);
        self.state.busy.store(false, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open().remove(&self.id);
        self.all.gauge.decrement(1.0);
    }
}

/// Serves one connection to its end.
pub(crate) fn serve_connection(
    stream: TcpStream,
    connection: Connection,
    router: Router,
    config: &Config,
) -> impl Future<Output = ()> + Send + use<> {
    let header_read_timeout = config.header_read_timeout;
    set_options(&stream, config.write_timeout);
    async move {
        let connection = Arc::new(connection);
        let service = {
            let connection = Arc::clone(&connection);
            service_fn(move |request| {
                connection.begin();
                let (router, connection) = (router.clone(), Arc::clone(&connection));
                async move {
                    let response = router.respond(request).await;
                    connection.end();
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let stream = Watched { stream: TokioIo::new(stream), connection: Arc::clone(&connection) };
        let mut served = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(header_read_timeout)
                // Who has said all may close that half, and still wants its answer.
                .half_close(true)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(stream, service)
        );
        // How a connection ends is the client's affair: a reset or a timeout needs no word.
        tokio::select! {
            _ = served.as_mut() => return,
            () = connection.state.leave.notified() => {}
        }
        served.as_mut().graceful_shutdown();
        while timeout(LEAVE_GRACE, served.as_mut()).await.is_err() {
            if connection.state.idles() {
                return;
            }
        }
    }
}

/// Small answers go out at once; a client that does not read its answer is cut off by the kernel.
fn set_options(stream: &TcpStream, write_timeout: Duration) {
    let patience = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
    let set = stream.set_nodelay(true).and_then(|()| {
        rustix::net::sockopt::set_tcp_user_timeout(stream, patience).map_err(Into::into)
    });
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set a connection's options");
    }
}
