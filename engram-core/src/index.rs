//! What finds episodes: derived from the log, thrown away and made again at will.

pub mod bits;
pub mod facets;
pub mod fuse;
pub(crate) mod mix;
pub mod space;
pub mod text;
pub mod top;
pub mod vector;
pub mod words;
