//! Data: reading CSV files, hashing and splitting images, copying them to the training device.

pub mod advice;
pub mod check;
pub mod class_counts;
pub mod config;
pub mod csv;
pub mod dataset;
pub mod device_images;
pub mod duplicates;
pub mod images;
pub mod label_map;
pub mod labels;
pub mod sampler;
pub mod soft_labels;
pub mod split;
