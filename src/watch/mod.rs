//! A dashboard in the terminal for runs and sweeps, in training or finished. It reads their files and
//! writes nothing.

mod charts;
mod estimates;
mod run_status;
mod screen;
mod snapshot_text;
mod source;
mod sweep_panel;
mod terminal;
#[cfg(test)]
mod tests;

pub use run_status::{RunState, RunStatus};
pub use snapshot_text::snapshot_text;
pub use source::{SweepStatus, Watched, look};
pub use terminal::{has_terminal, watch};
