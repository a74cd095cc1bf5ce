//! Training: what a step does, how the learning rate goes, and the loop.

mod account;
pub mod cadence;
pub mod memory;
pub mod optimizer;
pub mod plan;
pub mod profile;
pub mod resume;
pub mod run;
pub mod schedule;
pub mod step;
pub mod stop;
mod words;
