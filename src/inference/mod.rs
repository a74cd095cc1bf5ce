//! Using a trained run: predictions, ensembles, submissions.

pub mod ensemble;
pub mod forward;
pub mod submission;
pub mod trained_run;
