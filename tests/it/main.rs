//! Tests through the command line: what a user types, and what comes back.

// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, clippy::unwrap_used)]

mod augment;
mod cli;
mod common;
mod data;
mod ensemble;
mod export;
mod forest;
mod fuzz;
mod imbalance;
mod lost;
mod malformed;
mod models;
mod page;
mod real;
mod soft_labels;
mod sweep;
mod tensorboard;
mod train;
mod using;
mod views;
