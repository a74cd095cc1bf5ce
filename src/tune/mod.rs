//! Tuning: a search over values of config keys, with successive halving.
//!
//! A study is a directory of ordinary runs and a journal. Every decision is a function of the journal
//! and the seed, so a killed study ends as an unbroken one.

pub mod confirmation;
pub mod domain;
pub mod halving;
pub mod history;
pub mod importance;
pub mod journal;
pub mod outputs;
pub mod page;
pub mod plan;
pub mod sampler;
pub mod search;
pub mod space;
mod space_table;
pub mod study;
pub mod study_dir;
pub mod trial;
