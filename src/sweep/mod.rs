//! Several configurations, each with several seeds, trained and compared.
//!
//! A sweep is a directory of ordinary runs, and what is made of them is read from their files: so a sweep that died goes on where
//! it stopped, and its planned_runs may be trained by other processes.

pub mod artifacts;
pub mod baseline;
pub mod comparison;
pub mod html_report;
pub mod plan;
pub mod runner;
pub mod significance;
pub mod sweep_dir;
pub mod workers;
