//! Grimace trains facial-expression classifiers on libtorch from CSV files of 48x48 grayscale images.
//!
//! The modules stand in the order in which an image passes through them; each imports only from those before it
//! (ARCHITECTURE.md tells the way). The program is a thin shell over [`cli::run`].

#![forbid(unsafe_code)]

pub mod util;

pub mod device;

pub mod data;

pub mod synthetic;

pub mod metrics;

pub mod transforms;

pub mod model;

pub mod optim;

pub mod config;

pub mod run_dir;

pub mod report;

pub mod forest;

pub mod inference;

pub mod train;

pub mod export;

pub mod sweep;

pub mod cli;

#[cfg(test)]
mod testing;
