//! What finds episodes: derived from the log, thrown away and made again at will.

pub mod bits;
pub mod top;
