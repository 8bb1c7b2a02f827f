//! Engram: durable episodic memory. This is the map of the crate.

pub mod clock;
pub mod disk;
mod driver;
pub mod embedder;
pub mod episode;
pub mod error;
pub mod index;
pub mod inspect;
pub mod metrics;
pub mod recall;
pub mod record;
#[cfg_attr(not(feature = "sim"), doc(hidden))]
pub mod sim;
pub mod storage;
pub mod store;
mod sync;

pub use clock::Timestamp;
pub use episode::{Draft, Episode, StoredEpisode};
pub use error::{Error, ErrorKind, Result};
pub use recall::{Cue, Recollection, Weights};
pub use store::{Condition, Durability, Options, Store};
