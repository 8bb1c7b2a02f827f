//! Engram's simulator: the real engine, stepped on one thread, over disks that lose, tear, flip
//! and fail, with an oracle beside it. The same seed gives the same run, byte for byte.
//!
//! [`act`] draws what happens, [`world`] does it, `law` says what must hold; [`model`] knows
//! what callers were told and [`replay`] what the bytes on disk say.

pub mod act;
pub mod dice;
pub mod disk;
pub mod figures;
pub mod frames;
mod law;
mod legacy;
mod life;
pub mod model;
pub mod recall;
pub mod replay;
pub mod shrink;
pub mod small;
pub mod staged;
pub mod tally;
pub mod world;
