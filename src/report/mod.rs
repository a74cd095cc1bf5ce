//! Output for people: console, plots, HTML reports, TensorBoard event files.

pub mod annotation;
pub mod comparison_text;
mod console;
pub mod contact_sheet;
pub mod heat_map;
pub mod html;
pub mod plot;
pub mod png_encoding;
mod provenance;
pub mod tensorboard;
pub mod text_table;

pub use console::{Console, duration, seconds};
pub use provenance::provenance_facts;
