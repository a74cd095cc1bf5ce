//! What a person sees while and after something runs.

mod console;
pub mod heat;
pub mod picture;
pub mod table;

pub use console::{Console, duration, seconds};
