//! Optimizers, learning rate schedules, EMA and loss, each with its config.

mod adam_update;
pub mod class_weights;
pub mod ema;
pub mod loss;
mod muon;
pub mod optimizer;
pub(crate) mod optimizer_config;
mod parts;
pub mod plateau;
pub mod schedule;
pub mod step_scalars;
