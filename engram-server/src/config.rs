//! What an operator can choose about serving, and the bounds that nobody chooses.

use std::time::Duration;

/// Largest body that holds one episode, in bytes. Every legal episode fits: 1 MiB of text with
/// each byte escaped (`\u0000`) takes 6 MiB, 4,096 numbers of 25 digits 100 KiB.
pub const EPISODE_BODY_BYTES_MAX: usize = 16 << 20;

/// Largest body that holds a cue, in bytes. Every legal cue fits: 16 KiB of text and 64 names of
/// 256 bytes take 96 KiB each where every byte is escaped (`\u0000`), 4,096 numbers of 25 digits
/// 100 KiB, metadata 64 KiB.
pub const CUE_BODY_BYTES_MAX: usize = 512 << 10;

/// Bodies over this size are parsed away from the threads that serve everybody, in bytes.
pub(crate) const INLINE_BYTES_MAX: usize = 256 << 10;

/// Slowest that a body may come once `body_timeout` has passed, in bytes per second.
pub(crate) const BODY_BYTES_PER_SECOND_MIN: u64 = 32 << 10;

/// How serving behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen, `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// Longest that a request's head may take, and that a connection may idle between requests.
    pub header_read_timeout: Duration,
    /// Longest that a body may take; a body that keeps coming at 32 KiB/s may take longer.
    pub body_timeout: Duration,
    /// Longest that a client may leave an answer unread.
    pub write_timeout: Duration,
    /// Most connections at a time. When one more comes, the one that idles longest is closed.
    pub connections_max: usize,
    /// Most bytes of bodies in memory at a time; beyond them clients get 429.
    pub bodies_bytes_max: usize,
    /// Longest that a shutdown waits for requests that were accepted.
    pub shutdown_timeout: Duration,
    /// Whether serving goes on, with the reason at `/readyz`, when the data directory has a gap
    /// (missing or unreadable LSNs) that only an operator can decide about. Any other failure
    /// to open ends serving at once.
    pub stay_when_log_has_gap: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7432".into(),
            header_read_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_mins(1),
            connections_max: 16_384,
            bodies_bytes_max: 256 << 20,
            shutdown_timeout: Duration::from_secs(10),
            stay_when_log_has_gap: true,
        }
    }
}
