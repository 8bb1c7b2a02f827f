//! The rest of a body that nobody wants any more.
//!
//! A request can be refused before all of its body was read. Were the connection closed then,
//! a client that sends all before it listens would meet a reset instead of the refusal. So the
//! refusal goes out at once, and what still comes is read and thrown away, within bounds.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::body::Body;

/// Most bytes that are read to be thrown away.
const DRAIN_BYTES_MAX: usize = 256 << 20;
/// Longest that reading them may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that the client may pause meanwhile.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads what still comes of a body, beside everything else.
pub(crate) fn drain(mut body: impl Body + 'static) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(timeout(DRAIN_TIMEOUT, async move {
        let mut drained = 0;
        while let Ok(Some(Ok(frame))) = timeout(PAUSE_TIMEOUT, body.frame()).await
            && drained <= DRAIN_BYTES_MAX
        {
            drained += frame.data_ref().map_or(0, Bytes::len);
        }
    }));
}
