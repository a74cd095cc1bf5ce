//! Times linfa-ensemble's random forest, for comparison with Grimace's:
//!
//! ```text
//! cargo run --release -p grimace-benches --example linfa_ensemble -- \
//!     TRAIN.csv VALIDATION.csv ROWS TREES
//! ```
//!
//! It is a different forest: 48 pixels are sampled once per tree, not at every node, and its votes
//! are hard.

#![allow(clippy::expect_used)] // a benchmark that cannot run should stop

use std::time::Instant;

use grimace::data::config::CLASSES;
use grimace::data::images::PIXELS;
use grimace::data::read;
use grimace::data::read_options::{LabelPolicy, ReadOptions};
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use linfa_ensemble::EnsembleLearnerParams;
use linfa_trees::DecisionTree;
use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand::rngs::SmallRng;

fn read(path: &str, max_rows: usize) -> DatasetBase<Array2<f32>, Array1<usize>> {
    let classes = CLASSES.map(String::from);
    let options = ReadOptions::new(&classes, LabelPolicy::Required);
    let images = read::read(path.as_ref(), options).expect("a CSV of images");
    let count = images.len().min(max_rows);
    let pixels = images.pixels.all().expect("images in memory");
    let pixels = pixels.iter().take(count * PIXELS).map(|pixel| f32::from(*pixel)).collect();
    let records = Array2::from_shape_vec((count, PIXELS), pixels).expect("2304 pixels an image");
    let labels = images.labels.expect("labels");
    DatasetBase::new(records, labels.into_iter().take(count).map(usize::from).collect())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, validation, rows, trees] = &arguments[..] else {
        eprintln!("usage: linfa_ensemble TRAIN.csv VALIDATION.csv ROWS TREES");
        std::process::exit(2);
    };
    let (rows, trees) = (rows.parse().expect("a number of rows"), trees.parse().expect("a number of trees"));
    let (train, validation) = (read(train, rows), read(validation, usize::MAX));
    let fraction = 48.0 / PIXELS as f64;
    let began = Instant::now();
    let forest = EnsembleLearnerParams::new_fixed_rng(DecisionTree::params(), SmallRng::seed_from_u64(42))
        .ensemble_size(trees)
        .bootstrap_proportion(1.0)
        .feature_proportion(fraction)
        .fit(&train)
        .expect("a forest");
    let seconds = began.elapsed().as_secs_f64();
    let predicted: Array1<usize> = forest.predict(&validation.records);
    let correct = predicted.iter().zip(&validation.targets).filter(|(guess, truth)| guess == truth).count();
    let accuracy = correct as f64 / predicted.len() as f64;
    println!("{} rows, {trees} trees: {seconds:.1} s, validation accuracy {accuracy:.4}", train.records.nrows());
}
