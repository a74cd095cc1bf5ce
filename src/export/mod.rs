//! Export of trained models.

mod ensemble_module;
mod torchscript;

pub use ensemble_module::export_ensemble;
pub use torchscript::{EXTRA_FILE, Exported, export};
