//! The rest of a body that nobody wants any more.
//!
//! A request can be refused before all of its body was read. Were the connection closed then,
//! a client that sends all before it listens would meet a reset instead of the refusal. So the
//! refusal goes out at once, and what still comes is read and thrown away, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::Version;
use hyper::header::EXPECT;
use tokio::time::timeout;

use crate::body::Body;

/// Most bytes that are read to be thrown away.
const DRAIN_BYTES_MAX: usize = 256 << 20;
/// Longest that reading them may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that the client may pause meanwhile.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A body that may be refused.
#[derive(Debug)]
pub(crate) struct Refusable<B> {
    body: B,
    /// The client sends nothing before it is told to go on, which the first read does.
    is_awaited: bool,
}

impl<B: Body> Refusable<B> {
    pub(crate) fn new(head: &Parts, body: B) -> Self {
        let expects = head.headers.get(EXPECT);
        let expects =
            expects.is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { body, is_awaited: expects && head.version == Version::HTTP_11 }
    }

    /// Reads what still comes of it, beside everything else.
    pub(crate) fn drain(mut self)
    where
        B: 'static,
    {
        if self.is_awaited || self.body.is_end_stream() {
            return;
        }
        tokio::spawn(timeout(DRAIN_TIMEOUT, async move {
            let mut drained = 0;
            while let Ok(Some(Ok(frame))) = timeout(PAUSE_TIMEOUT, self.body.frame()).await
                && drained <= DRAIN_BYTES_MAX
            {
                drained += frame.data_ref().map_or(0, Bytes::len);
            }
        }));
    }
}

impl<B: Body> http_body::Body for Refusable<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.is_awaited = false;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
