//! Measures the Winograd convolution of crate `kernels` in one thread: milliseconds and GFLOP/s of
//! a direct convolution, the minimum of several rounds.
//!
//! ```shell
//! cargo run --release -p kernels --example winograd -- IMAGES ROUNDS SIDE,CHANNELS,FILTERS ...
//! ```
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Instant;

use kernels::conv;
use kernels::winograd::{BLOCK, Filters, Shape, TileSize, forward, pack, weight_gradient};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (images, rounds) = (arguments[0].parse().unwrap(), arguments[1].parse().unwrap());
    for sizes in &arguments[2..] {
        let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
        for tile in [TileSize::Two, TileSize::Three, TileSize::Four] {
            let conv =
                conv::Shape { height: sizes[0], width: sizes[0], channels: sizes[1], filters: sizes[2], padding: 1 };
            measure(&Shape { conv, tile, max_pool: false }, images, rounds);
        }
    }
}

fn measure(shape: &Shape, images: usize, rounds: usize) {
    let values = |count: usize| (0..count).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
    let (input, filters) = (values(images * shape.conv.input_len()), values(shape.conv.weights_len()));
    let gradient = values(images * shape.conv.conv_len());
    let (mut output, mut to_input) = (gradient.clone(), input.clone());
    let mut times = [f64::MAX; 3];
    for _ in 0..rounds {
        let mut time = |index: usize, body: &mut dyn FnMut()| {
            let start = Instant::now();
            body();
            times[index] = start.elapsed().as_secs_f64().min(times[index]);
        };
        time(0, &mut || forward(shape, &input, &packed(shape, Filters::Forward, &filters), None, &mut output));
        time(1, &mut || {
            let flipped = packed(shape, Filters::Flipped, &filters);
            forward(&shape.transposed(), &gradient, &flipped, None, &mut to_input);
        });
        time(2, &mut || filter_gradient(shape, &input, &gradient));
    }
    let operations = (2 * 9 * images * shape.conv.conv_len() * shape.conv.channels) as f64;
    let conv::Shape { height, channels, filters, .. } = shape.conv;
    let names = ["forward", "input", "filters"];
    for (name, time) in names.iter().zip(times) {
        let speed = operations / time / 1e9;
        println!("{height},{channels},{filters} {:?} {name} {:.3} ms {speed:.0} GFLOP/s", shape.tile, time * 1e3);
    }
}

fn packed(shape: &Shape, direction: Filters, filters: &[f32]) -> Vec<f32> {
    let inputs = if direction == Filters::Forward { shape.conv.channels } else { shape.conv.filters };
    let mut all = vec![0.0; shape.transformed_len()];
    for (block, to) in all.chunks_exact_mut(shape.tile.places() * inputs * BLOCK).enumerate() {
        pack(shape, direction, filters, block, to);
    }
    all
}

fn filter_gradient(shape: &Shape, input: &[f32], gradient: &[f32]) {
    let mut sums = vec![0.0; shape.transformed_len()];
    weight_gradient::transformed(shape, input, gradient, &mut sums);
    let mut to = vec![0.0; shape.conv.weights_len()];
    for (block, to) in to.chunks_exact_mut(BLOCK * 9 * shape.conv.channels).enumerate() {
        weight_gradient::unpack(shape, &sums, block, to);
    }
    std::hint::black_box(to);
}
