//! Sweeps: several configs, each with several values and seeds, trained and compared.
//!
//! A sweep is a directory of ordinary runs, and the comparison is read from their files: a killed
//! sweep resumes where it stopped, and any process may train a run.

pub mod artifacts;
pub mod baseline;
pub mod comparison;
pub mod comparison_table;
pub mod driver;
pub mod folds;
pub mod html_report;
pub mod many_machines;
pub mod plan;
pub mod runner;
pub mod shard;
pub mod significance;
pub mod sweep_dir;
pub mod sweep_json;
pub mod vary;
pub mod workers;
