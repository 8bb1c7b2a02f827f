//! Bodies: read with a bound in size and in time, whatever the client does.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::config::BODY_BYTES_PER_SECOND_MIN;
use crate::problem::{Kind, Problem};

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
pub(crate) async fn receive(app: &App, body: Body, bytes_max: usize) -> Result<Received, Problem> {
    let announced = http_body::Body::size_hint(&body);
    if announced.lower() > bytes_max as u64 {
        return Err(too_large(bytes_max, format!("{} bytes", announced.lower())));
    }
    let mut received = Received { bytes: Bytes::new(), app: app.clone(), counted: 0 };
    let mut body = body;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let start = Instant::now();
    let patience = app.config().body_timeout;
    loop {
        let slack = Duration::from_secs(received.counted as u64 / BODY_BYTES_PER_SECOND_MIN);
        let Ok(frame) = timeout_at(start + patience + slack, body.frame()).await else {
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

    use axum::response::IntoResponse;
    use futures_util::stream::{self, StreamExt};

    use super::*;
    use crate::{Config, MetricsExporter};

    fn app(bodies_bytes_max: usize) -> App {
        let config = Config { bodies_bytes_max, ..Config::default() };
        App::new(config, MetricsExporter::default(), "always".into(), Arc::default())
    }

    /// A body of pieces, without a length, that never ends by itself.
    fn endless(piece: usize) -> Body {
        Body::from_stream(stream::repeat(Ok::<_, Infallible>(Bytes::from(vec![b'x'; piece]))))
    }

    fn status(outcome: Result<Received, Problem>) -> u16 {
        outcome.unwrap_err().into_response().status().as_u16()
    }

    #[tokio::test]
    async fn pieces_come_together_in_order() {
        let pieces = ["ab", "", "c", "def"].map(Ok::<_, Infallible>);
        let body = Body::from_stream(stream::iter(pieces));
        assert_eq!(receive(&app(100), body, 6).await.unwrap().bytes, "abcdef");
        assert_eq!(receive(&app(100), Body::from("abc"), 3).await.unwrap().bytes, "abc");
        assert_eq!(receive(&app(100), Body::empty(), 3).await.unwrap().bytes, "");
    }

    #[tokio::test]
    async fn a_body_over_its_bound_is_refused_before_or_while_it_comes() {
        assert_eq!(status(receive(&app(100), Body::from("abcd"), 3).await), 413);
        assert_eq!(status(receive(&app(100), endless(1), 50).await), 413);
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound_which_is_freed_with_them() {
        let app = app(10);
        let held = receive(&app, Body::from("12345678"), 100).await.unwrap();
        assert_eq!(status(receive(&app, Body::from("123"), 100).await), 429);
        assert_eq!(status(receive(&app, endless(1), 100).await), 429);
        drop(held);
        receive(&app, Body::from("1234567890"), 100).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let app = app(1 << 20);
        assert_eq!(status(receive(&app, Body::from_stream(stalled(1)), 100).await), 408);
        let trickle = stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>("x")
        });
        assert_eq!(status(receive(&app, Body::from_stream(trickle), 100).await), 408);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_keeps_coming_is_waited_for() {
        let app = app(64 << 20);
        let piece = vec![b'x'; 40 << 10];
        let steady = stream::iter(0..90).then(move |_| {
            let piece = piece.clone();
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Infallible>(piece)
            }
        });
        let received = receive(&app, Body::from_stream(steady), 64 << 20).await.unwrap();
        assert_eq!(received.bytes.len(), 90 * (40 << 10));
    }

    fn stalled(pieces: usize) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        stream::repeat(Ok(Bytes::from_static(b"x"))).take(pieces).chain(stream::pending())
    }
}
