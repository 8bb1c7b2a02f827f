//! Engram: durable episodic memory in a directory, without a server.
//!
//! ```
//! use engram_core::{Condition, Cue, Draft, Options, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let store = Store::open(dir, Options::default())?;
//! let tea = Draft { id: Some("tea".into()), ..Draft::of("Ann takes her tea without sugar") };
//! // The change goes its way; when `wait` returns, it is on the disk.
//! let kept = store.remember("default", tea, Condition::Any)?.wait()?;
//! assert_eq!((kept.lsn, kept.replaced), (1, false));
//!
//! let found = store.recall("default", &Cue::of("who drinks tea?"))?;
//! assert_eq!(found.episodes[0].stored.episode.id, "tea");
//!
//! store.forget("default", "tea", Condition::Any)?.wait()?;
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Store`] is the whole interface; what it takes and gives stands here, in [`store`] and in [`recall`].
//! All else is public for the server, the command line, the simulator and the fuzzers, and may change:
//! [`storage`] is the log, from bytes to compaction (its map is in [`storage::wal`]), [`index`] what finds
//! episodes, [`disk`] and [`clock`] the ways out, [`inspect`] read-only looks at a directory.
//! `ARCHITECTURE.md` is the map of it all.

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
pub use store::{
    BatchOutcome, Condition, Durability, ListQuery, Options, Page, Pending, Remembered, Store,
};
