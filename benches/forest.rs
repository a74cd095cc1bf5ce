//! Benches of the forest: the best split of a node over 48 pixels, with both finders, for small and
//! large nodes.
//!
//! Part of `make bench`, on synthetic images.

#![allow(clippy::expect_used, missing_docs)] // a bench that cannot run should stop

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use grimace::data::config::CLASSES;
use grimace::data::images::PIXELS;
use grimace::forest::config::Finder;
use grimace::forest::{FeatureMatrix, ForestParams, Histogram, Linfa, Node, SplitFinder};
use grimace::synthetic::{generate, label};
use grimace::util::rng::Rng;
use kernels::gini::Mark;
use linfa::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2};

const ROWS: usize = 23_000;
const FEATURES: usize = 48;

fn images(count: usize) -> DatasetBase<Array2<u8>, Array1<usize>> {
    let labels: Vec<usize> = (0..count as u64).map(|index| label(1, index)).collect();
    let pixels = labels.iter().zip(0..).flat_map(|(label, index)| generate(1, index, *label)).collect();
    let records = Array2::from_shape_vec((count, PIXELS), pixels).expect("images have 2304 pixels");
    DatasetBase::new(records, labels.into())
}

fn finders(criterion: &mut Criterion) {
    let images = images(ROWS);
    let matrix = FeatureMatrix::new(&images, CLASSES.len()).expect("a feature matrix");
    let mut group = criterion.benchmark_group("split of a node");
    group.sample_size(10);
    for count in [50, 1_000, 20_000] {
        // Rows from the whole matrix, as in a node.
        let mut rows: Vec<u32> =
            Rng::new(&[count as u64]).permutation(ROWS).into_iter().map(|row| row as u32).collect();
        rows.truncate(count);
        rows.sort_unstable();
        let of = |row: &u32| matrix.labels().get(*row as usize).copied().expect("the matrix has the row");
        let marks: Vec<Mark> = rows.iter().map(|row| Mark::new(of(row), 1)).collect();
        let mut totals = vec![0; CLASSES.len()];
        for mark in &marks {
            *totals.get_mut(usize::from(mark.class())).expect("a class") += 1;
        }
        let node = Node { rows: &rows, marks: &marks, totals: &totals };
        group.throughput(Throughput::Elements((count * FEATURES) as u64));
        let mut number = 0;
        let mut features = || {
            // Different pixels each time, as at every node.
            number += 1;
            let permuted = Rng::new(&[number]).permutation(PIXELS);
            permuted.into_iter().take(FEATURES).map(|feature| feature as u16).collect::<Vec<_>>()
        };
        let mut run = |name: &str, finder: &mut dyn SplitFinder| {
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                let find = |features: Vec<u16>| finder.find(&matrix, node, &features).expect("a split");
                bencher.iter_batched(&mut features, find, criterion::BatchSize::SmallInput);
            });
        };
        run("histogram", &mut Histogram::new(CLASSES.len()));
        run("linfa", &mut Linfa);
    }
    group.finish();
}

fn trees(criterion: &mut Criterion) {
    let images = images(2_000);
    let mut group = criterion.benchmark_group("10 trees on 2,000 images");
    group.sample_size(10);
    for (name, finder) in [("histogram", Finder::Histogram), ("linfa", Finder::Linfa)] {
        let params = ForestParams::new(CLASSES.len(), 1).trees(10).finder(finder);
        group.bench_function(name, |bencher| bencher.iter(|| params.fit(&images).expect("a forest")));
    }
    group.finish();
}

criterion_group!(benches, finders, trees);
criterion_main!(benches);
