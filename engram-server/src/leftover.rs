//! The rest of a body that nobody wants any more.
//!
//! A request can be refused before all of its body was read. Were the connection closed then,
//! a client that sends all before it listens would meet a reset instead of the refusal. So the
//! refusal goes out at once, and what still comes is read and thrown away, within bounds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Most bytes that are read to be thrown away.
const DRAIN_BYTES_MAX: usize = 256 << 20;
/// Longest that reading them may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that the client may pause meanwhile.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A body that can be read on by somebody else.
#[derive(Debug, Clone)]
pub(crate) struct Leftover(Arc<Mutex<Body>>);

impl Leftover {
    /// Keeps a hand on the request's body, if there is one to come. A client that expects a
    /// "100 Continue" sends nothing before it hears from the server, so it leaves nothing.
    pub(crate) fn of(request: Request) -> (Request, Option<Self>) {
        if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
            return (request, None);
        }
        let (head, body) = request.into_parts();
        let leftover = Self(Arc::new(Mutex::new(body)));
        (Request::from_parts(head, Body::new(leftover.clone())), Some(leftover))
    }

    /// Reads what still comes, beside everything else.
    pub(crate) fn drain(mut self) {
        if self.is_end_stream() {
            return;
        }
        tokio::spawn(timeout(DRAIN_TIMEOUT, async move {
            let mut drained = 0;
            while let Ok(Some(Ok(frame))) = timeout(PAUSE_TIMEOUT, self.frame()).await
                && drained <= DRAIN_BYTES_MAX
            {
                drained += frame.data_ref().map_or(0, Bytes::len);
            }
        }));
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for Leftover {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}
