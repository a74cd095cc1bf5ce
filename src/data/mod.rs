//! From CSV files to faces: read, hash, split, and put into batches on the training device.

pub mod batches;
pub mod bounds;
pub mod check;
pub mod columns;
pub mod csv;
pub mod dataset;
pub mod faces;
pub mod lines;
mod pixels;
mod slow_csv;
pub mod soft_labels;
pub mod split;
pub mod synth;
pub mod table;
