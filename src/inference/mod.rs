//! Inference with trained runs: predictions, ensembles, submissions.

pub mod ensemble;
pub mod forward;
pub mod submission;
pub mod trained_run;
