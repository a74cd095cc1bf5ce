//! Grimace trains facial-expression classifiers on libtorch from CSV files of 48x48 grayscale
//! images.
//!
//! Modules are listed in dependency order: each imports only from those before it. The binary only
//! calls [`cli::run`]. ARCHITECTURE.md describes the design.

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

pub mod serve;

pub mod sweep;

pub mod tune;

pub mod watch;

pub mod reference;

pub mod cli;

#[cfg(test)]
mod testing;
