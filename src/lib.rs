//! Grimace trains facial-expression classifiers on libtorch from CSV files of 48x48 grey faces.
//!
//! The modules stand in the order in which a face passes through them; each imports only from those before it
//! (ARCHITECTURE.md tells the way). The program is a thin shell over [`cmd::run`].

#![forbid(unsafe_code)]

pub mod error;
pub mod rng;
pub mod stats;
pub mod text;

pub mod files;

pub mod sealed;

pub mod signals;

pub mod config;

pub mod device;

pub mod data;

pub mod augment;

pub mod model;

pub mod metrics;

pub mod forest;

pub mod checkpoint;

pub mod rundir;

pub mod report;

pub mod train;

pub mod export;

pub mod ensemble;

pub mod submit;

pub mod sweep;

pub mod cli;

pub mod cmd;

#[cfg(test)]
mod testing;
