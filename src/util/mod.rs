//! Utilities for every module: errors, files, text, random numbers, statistics, signals.

pub mod container;
pub mod error;
pub mod files;
pub mod flag_or_name;
pub mod rng;
pub mod signals;
pub mod stats;
pub mod text;
pub mod validate;
