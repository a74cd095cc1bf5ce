//! Training: what a step does, how the learning rate goes, and the loop; and fitting the forest.

mod account;
mod average;
pub mod cadence;
pub mod class_weights;
pub mod conclude;
mod events;
pub mod forest;
pub mod input;
pub mod loss;
pub mod memory;
pub mod optimizer;
pub mod plan;
pub mod plateau;
pub mod profile;
pub mod resume;
pub mod run;
pub mod sampling;
pub mod schedule;
pub mod session;
mod sizes;
pub mod step;
pub mod stop;
mod words;
