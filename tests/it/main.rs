//! Tests through the command line: what a user types, and what comes back.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test that cannot go on panics

mod cli;
mod common;
mod data;
mod export;
mod lost;
mod real;
mod train;
mod using;
