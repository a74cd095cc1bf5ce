//! Training: a step, the loop, and the session around it.

mod active_run;
pub mod batch;
pub mod checkpoint_interval;
mod checkpoint_writer;
pub mod device_check;
pub mod early_stopping;
pub mod epoch_schedule;
mod event_log;
pub mod final_report;
pub mod initial_weights;
mod memory_check;
mod partition;
pub mod profile;
mod progress;
pub mod resume;
pub mod session;
mod snapshot;
mod state;
pub mod step;
mod step_graphs;
mod step_position;
mod step_results;
mod step_state;
mod training_group;
pub mod training_loop;
pub mod warnings;
