//! A v0.1.0 data directory for worlds to begin with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engram_core::storage::legacy::{self, Change};

use crate::disk::bytes::Bytes;
use crate::disk::state::Image;
use crate::frames::DIR;
use crate::model::{Key, Known};

const FIRST: &[u8] =
    include_bytes!("../../engram-core/tests/fixtures/legacy/legacy3/wal/wal-000000006b03893d.log");
/// Where its log is.
fn path() -> PathBuf {
    Path::new(DIR).join("wal").join("wal-000000006b03893d.log")
}

/// Its files.
#[must_use]
pub(crate) fn image() -> Image {
    Image::from([(path(), Bytes::of(FIRST))])
}

/// Whether it was not taken over yet.
#[must_use]
pub(crate) fn is_waiting(image: &Image) -> bool {
    image.contains_key(&path())
}

/// What it holds, at LSNs that nobody knows yet.
#[must_use]
pub(crate) fn episodes() -> BTreeMap<Key, Known> {
    let mut episodes = BTreeMap::new();
    for entry in legacy::read(FIRST).entries {
        if let Change::Remember(episode) = entry.change {
            let key = ("default".to_owned(), episode.id.clone());
            episodes.insert(key, Known { lsn: 0, schema: 1, episode });
        }
    }
    episodes
}
