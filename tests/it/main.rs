//! Command-line tests.

// Failed tests panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, clippy::unwrap_used)]

mod class_imbalance;
mod cli;
mod common;
mod crash_safety;
mod cuda;
mod data;
mod docs;
mod ensemble;
mod export;
mod forest;
mod fuzz;
mod layers;
mod make;
mod malformed;
mod models;
mod predict;
mod real_images;
mod report_page;
mod soft_labels;
mod sweep;
mod tensorboard;
mod train;
mod transforms;
mod tta;
