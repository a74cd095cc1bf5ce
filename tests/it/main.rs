//! Command-line tests.

// Failed tests panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, clippy::unwrap_used)]

mod audit;
mod browser;
mod calibration;
mod class_imbalance;
mod cli;
mod common;
mod compare;
mod crash_safety;
mod cuda;
mod data;
mod distributed;
mod docs;
mod ensemble;
mod experiments;
mod explain;
mod export;
mod finetune;
mod folders;
mod forest;
mod fuzz;
mod layers;
mod make;
mod malformed;
mod models;
mod monitor;
mod onnx;
mod packed;
mod page;
mod photos;
mod predict;
mod process;
mod real_images;
mod report_page;
mod scale;
mod serve;
mod service;
mod soft_labels;
mod streaming;
mod sweep;
mod tensorboard;
mod train;
mod transforms;
mod tta;
mod tune;
mod tune_join;
mod watch;
