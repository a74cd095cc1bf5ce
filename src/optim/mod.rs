//! Optimizers, learning rate schedules, EMA and loss, each with its config.

mod adam_update;
pub mod class_weights;
pub mod ema;
mod layer_decay;
pub mod loss;
mod muon;
pub mod optimizer;
pub(crate) mod optimizer_config;
pub mod plateau;
pub mod schedule;
pub mod step_scalars;
