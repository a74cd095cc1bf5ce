//! Inference with trained runs: predictions, heat maps, ensembles, submissions.

pub mod audit;
pub mod classifier;
pub mod compared_runs;
pub mod drift;
pub mod ensemble;
pub mod explain;
pub mod forward;
pub mod out_of_fold;
pub mod photo_predictions;
pub mod submission;
pub mod trained_run;
