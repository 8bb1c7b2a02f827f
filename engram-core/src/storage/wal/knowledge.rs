//! What the log must be told by the memory above it: which frames are live, and why not.
//!
//! The log knows frames; only the memory knows what they are to it. This is the seam between
//! them: recovery and the writer tell it of each frame, compaction asks it for each one's fate.
//! Deliberately absent: episodes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::frame::Header;
use crate::record::Known;

/// Keys are keyed hashes already; hashing them again would only cost time.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // No key comes this way; what does is spread all the same.
        self.0 = self.0.rotate_left(32) ^ u64::from(super::frame::crc(bytes));
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// A map from keys.
pub type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The number of its segment, in this process.
    pub segment: u32,
    /// Where it begins.
    pub offset: u32,
    /// Its length, header included.
    pub bytes: u32,
}

/// How the bytes of a segment are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of frames that the memory needs.
    pub live: u64,
    /// Bytes of frames that it does not.
    pub dead: u64,
    /// Since when (seconds since 1970) it holds forgotten bytes.
    pub forgotten_since: Option<i64>,
}

/// Why a frame may leave the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A later frame of the same key took its place.
    SupersededBy(u64),
    /// A later `Forget` or `ForgetSpace` covers it.
    ForgottenBy(u64),
    /// A tombstone, and no older segment can hold a frame of its key.
    NothingOlder,
    /// A mark; later frames say more.
    Mark,
}

/// What compaction does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Copied.
    Live,
    /// Dropped, for a named, durable reason.
    Dead(Reason),
    /// Copied, counted and alarmed: nothing needs it, and nothing durable says why.
    Unexplained,
}

/// What one run of compaction has dropped so far; not yet true of the log.
#[derive(Debug, Default, Clone)]
pub struct Dropped {
    /// Frames of a key older than its tombstone.
    pub by_key: KeyMap<u32>,
    /// Frames of a space older than its floor.
    pub by_space: KeyMap<u64>,
}

/// What a change did to the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// An episode of that key was there before.
    pub replaced: bool,
    /// Episodes forgotten.
    pub forgotten: u64,
}

/// The memory above the log.
pub trait Knowledge: std::fmt::Debug {
    /// Applies a frame that stands at `place`; `known` is `None` when this version does not
    /// understand it. Applying twice is the same as once.
    fn apply(&mut self, header: &Header, place: Place, known: Option<&Known<'_>>) -> Applied;
    /// The log may hold frames that were not applied, of any key: what damage or the device hid from this
    /// start may be there again at another one. Forgets must outlive them.
    fn doubt(&mut self);
    /// What compaction is to do with a frame, given what its run has dropped already.
    fn fate(&self, header: &Header, dropped: &Dropped) -> Fate;
    /// Notes that a run drops this frame, so that a tombstone behind it may be dropped too.
    fn note_dropped(&self, header: &Header, dropped: &mut Dropped);
    /// A frame has left the log.
    fn dropped(&mut self, header: &Header);
    /// A frame was copied to another place; compare-and-swap on its LSN.
    fn moved(&mut self, header: &Header, to: Place);
    /// Forgets the figures of a segment that is gone. With `sweep`, drops entries that still
    /// stand in it (their frames were lost to damage), and gives their LSNs.
    fn segment_gone(&mut self, segment: u32, sweep: bool) -> Vec<u64>;
    /// How the bytes of a segment are used.
    fn usage(&self, segment: u32) -> Usage;
    /// Since when a rewritten segment holds forgotten bytes.
    fn carry_forgotten_since(&mut self, segment: u32, since: Option<i64>);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(feed: impl Fn(&mut KeyHasher)) -> u64 {
        let mut hasher = KeyHasher::default();
        feed(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn a_key_is_its_own_hash_and_other_bytes_are_spread() {
        for key in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(hash(|hasher| hasher.write_u64(key)), key);
        }
        let texts = ["", "a", "b", "ab", "ba", "aaaaaaaaa", "baaaaaaaa"];
        let hashes: std::collections::HashSet<u64> =
            texts.iter().map(|text| hash(|hasher| hasher.write(text.as_bytes()))).collect();
        assert_eq!(hashes.len(), texts.len());
        let [once, twice] = [1, 2].map(|n| hash(|h| (0..n).for_each(|_| h.write(b"a"))));
        assert_ne!(once, twice);
    }
}
