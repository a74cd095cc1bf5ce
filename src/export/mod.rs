//! Export of trained models.

mod ensemble_module;
mod output_path;
mod torchscript;

pub use ensemble_module::export_ensemble;
pub use output_path::{ExportPath, check_export_path};
pub use torchscript::{EXTRA_FILE, Exported, export};
