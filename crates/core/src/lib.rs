//! Words and bytes of Lux Session.

pub mod cb58;
pub mod codec;
pub mod hash;
pub mod ids;
