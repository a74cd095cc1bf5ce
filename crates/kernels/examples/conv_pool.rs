//! Measures the kernels of the first layers of a CNN in one thread, for every instruction set of
//! this processor: milliseconds and GFLOP/s, the minimum of several rounds in turn.
//!
//! ```shell
//! cargo run --release -p kernels --example conv_pool -- ROUNDS IMAGES SIDE,CHANNELS,FILTERS,PADDING ...
//! ```
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Instant;

use kernels::conv_pool::{Gradients, Saved, Shape, backward, forward, pack_for_backward, pack_for_forward};
use kernels::winograd::{self, BLOCK, Filters, TileSize};
use kernels::{Element, Isa, bf16, isa, limit_isa, warp};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (rounds, images) = (arguments[0].parse().unwrap(), arguments[1].parse().unwrap());
    let sets: Vec<Isa> = match isa() {
        Some(Isa::Avx512) => vec![Isa::Avx512, Isa::Avx2],
        Some(isa) => vec![isa],
        None => return println!("this processor has no instruction set of the kernels"),
    };
    for sizes in &arguments[2..] {
        let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
        let shape =
            Shape { height: sizes[0], width: sizes[0], channels: sizes[1], filters: sizes[2], padding: sizes[3] };
        measure::<f32>(&shape, images, rounds, &sets);
        measure::<bf16>(&shape, images, rounds, &sets);
    }
    measure_warp::<f32>(images, rounds, &sets);
    measure_warp::<bf16>(images, rounds, &sets);
}

fn values<E: Element>(count: usize) -> Vec<E> {
    (0..count).map(|index| E::from_f32((index * 37 % 101) as f32 / 50.0 - 1.0)).collect()
}

fn dtype<E: Element>() -> &'static str {
    if size_of::<E>() == 4 { "float32" } else { "bf16" }
}

/// Calls `body` in turn with each instruction set, and prints the best times.
fn in_turn(name: &str, operations: usize, rounds: usize, sets: &[Isa], mut body: impl FnMut()) {
    let mut times = vec![f64::MAX; sets.len()];
    for _ in 0..rounds {
        for (isa, time) in sets.iter().zip(&mut times) {
            limit_isa(Some(*isa));
            let start = Instant::now();
            body();
            *time = start.elapsed().as_secs_f64().min(*time);
        }
    }
    for (isa, time) in sets.iter().zip(times) {
        println!("{name} {isa:?}: {:.3} ms, {:.0} GFLOP/s", time * 1e3, operations as f64 / time / 1e9);
    }
}

fn measure<E: Element>(shape: &Shape, images: usize, rounds: usize, sets: &[Isa]) {
    let input = values::<E>(images * shape.input_len());
    let (filters, bias) = (values::<E>(shape.weights_len()), values::<f32>(shape.filters));
    let mut pooled = vec![E::default(); images * shape.pooled_len()];
    let mut argmax = vec![0; pooled.len()];
    let Shape { height, channels, filters: count, .. } = shape;
    let name = format!("{height},{channels},{count} {}", dtype::<E>());
    let operations = 2 * 9 * images * 4 * shape.pooled_len() * channels;
    in_turn(&format!("{name} forward"), operations, rounds, sets, || {
        let packed = pack_for_forward(shape, &filters);
        forward(shape, &input, &packed, &bias, &mut pooled, &mut argmax);
    });
    println!(
        "{name} sum of the bits {:x}",
        pooled.iter().fold(0u64, |sum, value| { sum.wrapping_mul(31).wrapping_add(value.to_f32().to_bits().into()) })
    );
    let weights: Vec<f32> = filters.iter().map(|value| value.to_f32()).collect();
    for tile in [TileSize::Two, TileSize::Four] {
        let shape = winograd::Shape { conv: *shape, tile, max_pool: true };
        if !shape.is_supported() {
            continue;
        }
        let mut packed = vec![0.0; shape.transformed_len()];
        in_turn(&format!("{name} forward, Winograd {tile:?}"), operations, rounds, sets, || {
            for (block, to) in packed.chunks_exact_mut(tile.places() * channels * BLOCK).enumerate() {
                winograd::pack(&shape, Filters::Forward, &weights, block, to);
            }
            winograd::forward_max_pool(&shape, &input, &packed, &bias, &mut pooled, &mut argmax);
        });
    }
    let gradient: Vec<E> = pooled.iter().map(|value| E::from_f32(value.to_f32().max(0.0))).collect();
    let mut to_input = input.clone();
    let (mut to_filters, mut to_bias) = (vec![0.0; weights.len()], vec![0.0; bias.len()]);
    let packed = if shape.channels > 1 { pack_for_backward(shape, &weights) } else { Vec::new() };
    in_turn(&format!("{name} backward"), 2 * operations, rounds, sets, || {
        let saved = Saved { input: &input, argmax: &argmax, gradient: &gradient };
        let to_input = (shape.channels > 1).then_some((&mut to_input[..], &packed[..]));
        backward(shape, &saved, &mut Gradients { filters: &mut to_filters, bias: &mut to_bias, input: to_input });
    });
}

fn measure_warp<E: Element>(images: usize, rounds: usize, sets: &[Isa]) {
    const SIDE: usize = 48;
    let pixels: Vec<u8> = (0..images * SIDE * SIDE).map(|at| (at * 7919 % 256) as u8).collect();
    let rows: Vec<i64> = (0..images as i64).rev().collect();
    let thetas = [0.97f32, -0.17, 0.1, 0.17, 1.05, -0.2].repeat(images);
    let mut output = vec![E::default(); pixels.len()];
    let name = format!("warp {}", dtype::<E>());
    in_turn(&name, 8 * output.len(), rounds, sets, || {
        warp::warp(&pixels, SIDE, &rows, &thetas, &mut output);
    });
}
