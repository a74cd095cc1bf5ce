//! Several configurations, each with several seeds, trained and compared.
//!
//! A sweep is a directory of ordinary runs, and what is made of them is read from their files: so a sweep that died goes on where
//! it stopped, and its members may be trained by other processes.

pub mod baseline;
pub mod chance;
pub mod comparison;
pub mod folder;
pub mod plan;
pub mod report;
pub mod results;
pub mod train;
pub mod workers;
