//! Times the layers of the network on a picture of noise, the shortest of all rounds.
//!
//!   RAYON_NUM_THREADS=1 cargo run --release -p face-detect --example layers -- [SIDE [ROUNDS]] [avx2|none|bf16]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Instant;

use face_detect::{Detector, Isa, find_weights};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let side = arguments.first().copied().unwrap_or(1024);
    let rounds = arguments.get(1).copied().unwrap_or(30);
    let mut detector = Detector::open(&find_weights(&[]).unwrap()).unwrap();
    for word in words.iter().filter(|word| word.parse::<usize>().is_err()) {
        detector = match word.as_str() {
            "avx2" => detector.with_isa(Some(Isa::Avx2)),
            "none" => detector.with_isa(None),
            "bf16" => detector.with_bf16(),
            _ => panic!("{word} is not one of avx2, none, bf16"),
        };
    }
    let start = Instant::now();
    println!("| layer | GFLOP | ms | GFLOP/s |\n| --- | --- | --- | --- |");
    let (mut seconds, mut flops) = (0.0, 0.0);
    let show = |name: &str, seconds: f64, flops: f64| {
        println!("| {name} | {:.2} | {:.2} | {:.0} |", flops / 1e9, seconds * 1e3, flops / seconds / 1e9);
    };
    for layer in detector.time_layers(side, side, rounds, || start.elapsed().as_secs_f64()) {
        let here = 2.0 * layer.products as f64;
        show(&layer.name, layer.seconds, here);
        seconds += layer.seconds;
        flops += here;
    }
    show("all", seconds, flops);
}
