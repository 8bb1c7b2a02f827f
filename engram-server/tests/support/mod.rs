//! A running server on a free port, and a small client.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here fails the test")]

use std::net::SocketAddr;

use bytes::Bytes;
use engram_core::Result;
use engram_server::{Config, MetricsExporter, Opening, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    /// Starts on a free port.
    pub(crate) async fn start(config: Config, opening: Opening, metrics: MetricsExporter) -> Self {
        let config = Config { listen: "127.0.0.1:0".into(), ..config };
        let server = Server::bind(config).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _stopped_or_dropped = stopped.await;
        };
        let task = tokio::spawn(server.serve(opening, metrics, shutdown));
        Self { address, stop, task }
    }

    /// Asks it to stop; gives what serving came to.
    pub(crate) async fn stop(self) -> Result<()> {
        let _gone_already = self.stop.send(());
        self.task.await.unwrap()
    }

    /// Waits until serving ends by itself.
    #[allow(dead_code, reason = "each test file uses its own part of the support")]
    pub(crate) async fn ended(self) -> Result<()> {
        self.task.await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (requests, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client(requests)
    }
}

/// One keep-alive connection.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a problem of this status and type.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, slug: &str) -> Value {
        let told = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{told}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{told}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{told}");
        problem
    }
}

impl Client {
    /// Sends a request with headers and waits for the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same, for connections that may end.
    pub(crate) async fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> hyper::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "engram");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }
}
