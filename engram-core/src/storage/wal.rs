//! The write-ahead log. Read in this order:
//!
//! 1. bytes on disk: `bytes`, [`frame`], [`segment`], [`footer`], [`head`];
//! 2. reading: [`scan`], [`order`], [`read`], [`contents`], [`survey`];
//! 3. judging, which is pure: [`tiling`], [`verdict`], `losses`, [`plan`];
//! 4. acting on it: [`quarantine`], [`recover`];
//! 5. writing: [`blocks`], [`prealloc`], [`segments`], [`writer`];
//! 6. giving back: [`knowledge`], [`compact`];
//! 7. beside all of them: [`mod@env`], [`report`].
//!
//! Why it is safe: a length is believed only under its own checksum ([`frame`]). A frame that is whole is
//! kept, understood or not ([`plan`]). Bytes are copied elsewhere and synced before anything removes them
//! ([`recover`]). A new file is whole and synced before it gets its name, and the name is the moment from
//! which it counts ([`compact`], [`writer`]). A frame is dropped only for a reason that is on the disk
//! ([`knowledge`]). After a failed sync nothing is written any more ([`writer`]).

pub mod blocks;
pub(crate) mod bytes;
pub mod compact;
pub mod contents;
pub mod env;
pub mod footer;
pub mod frame;
pub mod head;
pub mod knowledge;
mod losses;
pub mod order;
pub mod plan;
pub mod prealloc;
pub mod quarantine;
pub mod read;
pub mod recover;
pub mod report;
pub mod scan;
pub mod segment;
pub mod segments;
pub mod survey;
pub mod tiling;
pub mod verdict;
pub mod writer;
