//! Data: reading CSV files, folders and packed files, hashing and splitting images, copying them to the training device.

pub mod advice;
pub mod bad_rows;
pub mod check;
pub mod class_counts;
pub mod config;
pub mod convert;
pub mod csv;
pub mod dataset;
pub mod device_images;
pub mod duplicates;
pub mod folder;
pub mod image_stream;
pub mod images;
pub mod label_map;
pub mod labels;
pub mod pack;
pub mod packed;
pub mod photos;
pub mod picture;
pub mod picture_header;
pub mod pixel_store;
mod png_decoder;
pub mod read;
pub mod read_options;
pub mod sampler;
pub mod soft_labels;
pub mod split;
