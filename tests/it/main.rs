//! Tests through the command line: what a user types, and what comes back.

mod cli;
mod common;
mod data;
mod export;
mod real;
mod train;
mod using;
