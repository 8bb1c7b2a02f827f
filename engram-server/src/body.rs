//! Bodies: read with a bound in size and in time, whatever the client does.

use std::fmt::Display;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::config::BODY_BYTES_PER_SECOND_MIN;
use crate::problem::{Kind, Problem};

/// An answer, whole.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// A body that comes in.
pub(crate) trait Body: http_body::Body<Data = Bytes, Error: Display> + Send + Unpin {}

impl<B: http_body::Body<Data = Bytes, Error: Display> + Send + Unpin> Body for B {}

/// A body in memory; as long as it lives it counts towards the bound of all bodies.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    app: App,
    counted: usize,
}

impl Drop for Received {
    fn drop(&mut self) {
        self.app.give_body_bytes(self.counted);
    }
}

impl Received {
    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        self.app.take_body_bytes(bytes)?;
        self.counted += bytes;
        Ok(())
    }
}

/// Reads a body of at most `bytes_max` bytes.
pub(crate) async fn receive(
    app: &App,
    body: &mut impl Body,
    bytes_max: usize,
) -> Result<Received, Problem> {
    let announced = body.size_hint();
    if announced.lower() > bytes_max as u64 {
        return Err(too_large(bytes_max, format!("{} bytes", announced.lower())));
    }
    let mut received = Received { bytes: Bytes::new(), app: app.clone(), counted: 0 };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let start = Instant::now();
    let patience = app.config().body_timeout;
    loop {
        let slack = Duration::from_secs(received.counted as u64 / BODY_BYTES_PER_SECOND_MIN);
        // What came fast earns no right to stop: it takes up memory that others wait for.
        let until = (start + slack).min(Instant::now()) + patience;
        let Ok(frame) = timeout_at(until, body.frame()).await else {
            return Err(too_slow(patience, received.counted));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Problem::new(Kind::Malformed, format!("the body ended early: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        received.count(data.len())?;
        if received.counted > bytes_max {
            let value = format!("more than {} bytes", received.counted);
            return Err(too_large(bytes_max, value));
        }
        // Most bodies come in one piece, which is taken as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    received.bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(received)
}

fn too_large(bytes_max: usize, value: String) -> Problem {
    let bound = format!("at most {bytes_max} bytes");
    Problem::of_field(Kind::TooLarge, "body", "too large; nothing was stored", bound, value)
}

fn too_slow(patience: Duration, counted: usize) -> Problem {
    let bound = format!(
        "{} seconds, longer while at least {BODY_BYTES_PER_SECOND_MIN} bytes come a second",
        patience.as_secs_f64()
    );
    let value = format!("{counted} bytes so far");
    Problem::of_field(Kind::Timeout, "body", "came too slowly; nothing was stored", bound, value)
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    NdJson,
    /// The client does not say.
    Unsaid,
}

impl MediaType {
    /// The type that the headers tell.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(encoding) = headers.get(CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            let value = String::from_utf8_lossy(encoding.as_bytes());
            return Err(Problem::of_field(
                Kind::UnsupportedMediaType,
                "Content-Encoding",
                "not understood",
                "identity",
                value,
            ));
        }
        let Some(header) = headers.get(CONTENT_TYPE) else { return Ok(Self::Unsaid) };
        // As nearly everybody writes it.
        if header == "application/json" {
            return Ok(Self::Json);
        }
        let whole = String::from_utf8_lossy(header.as_bytes());
        let essence = whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "text/json" => Ok(Self::Json),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => Ok(Self::NdJson),
            other if other.starts_with("application/") && other.ends_with("+json") => {
                Ok(Self::Json)
            }
            _ => Err(Self::refused(&whole)),
        }
    }

    /// The problem with a type that is not taken here.
    pub(crate) fn refused(value: &str) -> Problem {
        Problem::of_field(
            Kind::UnsupportedMediaType,
            "Content-Type",
            "not understood here",
            "application/json, and for batches application/x-ndjson too",
            value,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::stream::{self, Stream, StreamExt};
    use http_body_util::{Empty, StreamBody};
    use hyper::body::Frame;

    use super::*;
    use crate::{Config, MetricsExporter};

    fn app(bodies_bytes_max: usize) -> App {
        let config = Config { bodies_bytes_max, ..Config::default() };
        App::new(config, MetricsExporter::default(), "always".into(), Arc::default())
    }

    fn full(text: &'static str) -> Full<Bytes> {
        Full::from(text)
    }

    /// A body of pieces, without a length, that never ends by itself.
    fn endless(piece: usize) -> impl Body {
        streamed(stream::repeat(Bytes::from(vec![b'x'; piece])))
    }

    /// A body of pieces that come one by one.
    fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> impl Body {
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        StreamBody::new(frames.boxed())
    }

    fn status(outcome: Result<Received, Problem>) -> u16 {
        outcome.unwrap_err().status().as_u16()
    }

    #[tokio::test]
    async fn pieces_come_together_in_order() {
        let mut body = streamed(stream::iter(["ab", "", "c", "def"]).map(Bytes::from));
        assert_eq!(receive(&app(100), &mut body, 6).await.unwrap().bytes, "abcdef");
        assert_eq!(receive(&app(100), &mut full("abc"), 3).await.unwrap().bytes, "abc");
        let mut body = Empty::<Bytes>::new();
        assert_eq!(receive(&app(100), &mut body, 3).await.unwrap().bytes, "");
    }

    #[tokio::test]
    async fn a_body_over_its_bound_is_refused_before_or_while_it_comes() {
        assert_eq!(status(receive(&app(100), &mut full("abcd"), 3).await), 413);
        assert_eq!(status(receive(&app(100), &mut endless(1), 50).await), 413);
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound_which_is_freed_with_them() {
        let app = app(10);
        let held = receive(&app, &mut full("12345678"), 100).await.unwrap();
        assert_eq!(status(receive(&app, &mut full("123"), 100).await), 429);
        assert_eq!(status(receive(&app, &mut endless(1), 100).await), 429);
        drop(held);
        receive(&app, &mut full("1234567890"), 100).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let app = app(1 << 20);
        let mut stalled = streamed(stream::iter([Bytes::from("x")]).chain(stream::pending()));
        assert_eq!(status(receive(&app, &mut stalled, 100).await), 408);
        let mut trickle = streamed(stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Bytes::from("x")
        }));
        assert_eq!(status(receive(&app, &mut trickle, 100).await), 408);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_keeps_coming_is_waited_for() {
        let app = app(64 << 20);
        let piece = Bytes::from(vec![b'x'; 40 << 10]);
        let mut steady = streamed(stream::iter(0..90).then(move |_| {
            let piece = piece.clone();
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                piece
            }
        }));
        let received = receive(&app, &mut steady, 64 << 20).await.unwrap();
        assert_eq!(received.bytes.len(), 90 * (40 << 10));
    }
}
