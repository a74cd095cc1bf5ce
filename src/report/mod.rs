//! What a person sees while and after something runs.

mod console;
pub mod heat;
pub mod page;
pub mod picture;
pub mod plot;
mod provenance;
pub mod table;
pub mod tensorboard;

pub use console::{Console, duration, seconds};
pub use provenance::provenance_figures;
