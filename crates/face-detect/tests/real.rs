//! The detector on real faces. Skipped unless GRIMACE_FACES names a folder with fer2013.csv (emotion,
//! pixels, Usage) and the weights are installed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers outside of test functions

use face_detect::{Detector, Face, Options, Picture, Square, find_weights};

/// The detector and the first `count` faces of PublicTest, or why not.
fn setup(count: usize) -> Option<(Detector, Vec<Vec<u8>>)> {
    let Some(path) = std::env::var_os("GRIMACE_FACES") else {
        println!("skipped: GRIMACE_FACES is not set to a folder with fer2013.csv");
        return None;
    };
    let weights = match find_weights(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv").into()]) {
        Ok(weights) => weights,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let text = fs_err::read_to_string(std::path::Path::new(&path).join("fer2013.csv")).unwrap();
    let rows = text.lines().filter(|line| line.trim_end().trim_end_matches('"').ends_with("PublicTest"));
    let face = |line: &str| -> Vec<u8> {
        let pixels = line.split(',').nth(1).unwrap().trim_matches('"');
        pixels.split(' ').map(|value| value.parse().unwrap()).collect()
    };
    Some((Detector::open(&weights).unwrap(), rows.take(count).map(face).collect()))
}

/// A page of faces, `side` pixels each, on a gradient.
fn page(faces: &[Vec<u8>], side: usize) -> (Vec<u8>, usize, usize, Vec<Square>) {
    let (columns, cell) = (8, side + side / 4);
    let (width, height) = (columns * cell, faces.len().div_ceil(columns) * cell);
    let mut pixels: Vec<u8> = (0..width * height).map(|i| (60 + (i % width) * 120 / width) as u8).collect();
    let mut truth = Vec::new();
    for (i, face) in faces.iter().enumerate() {
        let whole = Square { x: 0.0, y: 0.0, side: 48.0 };
        let large = Picture::gray(face, 48, 48).unwrap().crop_gray(whole, side);
        let (x, y) = (i % columns * cell + side / 8, i / columns * cell + side / 8);
        for (row, from) in large.chunks_exact(side).enumerate() {
            pixels[(y + row) * width + x..][..side].copy_from_slice(from);
        }
        truth.push(Square { x: x as f32, y: y as f32, side: side as f32 });
    }
    (pixels, width, height, truth)
}

fn iou(a: Square, b: Square) -> f32 {
    let along = |a: f32, al: f32, b: f32, bl: f32| ((a + al).min(b + bl) - a.max(b)).max(0.0);
    let both = along(a.x, a.side, b.x, b.side) * along(a.y, a.side, b.y, b.side);
    both / (a.side * a.side + b.side * b.side - both)
}

#[test]
fn the_network_agrees_with_onnx_runtime() {
    // By onnxruntime 1.32.0 from the same file: x, y, width, height and score of the only face.
    const EXPECTED: [[f32; 5]; 4] = [
        [50.7895, 46.1686, 54.6845, 71.6318, 0.7365],
        [39.7605, 33.8836, 84.1137, 79.8958, 0.8537],
        [45.8906, 36.6144, 80.55, 90.3937, 0.8531],
        [34.0607, 33.3979, 87.35, 96.7997, 0.8077],
    ];
    let Some((detector, faces)) = setup(4) else { return };
    for (face, expected) in faces.iter().zip(EXPECTED) {
        // Every pixel twice in both directions, in the middle of 160 x 160 gray ones.
        let mut pixels = vec![100; 160 * 160];
        for (i, to) in pixels.iter_mut().enumerate() {
            let (x, y) = (i % 160, i / 160);
            if (32..128).contains(&x) && (32..128).contains(&y) {
                *to = face[(y - 32) / 2 * 48 + (x - 32) / 2];
            }
        }
        // At 32 the network sees the picture as it is.
        let options = Options { min_face: 32.0, ..Options::default() };
        let found = detector.detect(Picture::gray(&pixels, 160, 160).unwrap(), &options).unwrap();
        let Face { x, y, width, height, score } = found[0];
        assert_eq!(found.len(), 1);
        for (got, expected) in [x, y, width, height, score * 10.0].into_iter().zip(expected) {
            let expected = if expected < 1.0 { expected * 10.0 } else { expected };
            assert!((got - expected).abs() < 0.02, "{found:?} {expected}");
        }
    }
}

#[test]
fn faces_of_many_sizes_are_found_and_cut_as_fer2013_does() {
    let Some((detector, faces)) = setup(96) else { return };
    for (side, recall) in [(48, 0.9), (96, 0.9), (200, 0.9)] {
        let (pixels, width, height, truth) = page(&faces, side);
        let found = detector.detect(Picture::gray(&pixels, width, height).unwrap(), &Options::default()).unwrap();
        let best = |square: &Square| found.iter().map(|face| iou(face.crop_square(), *square)).fold(0.0, f32::max);
        let mut ious: Vec<f32> = truth.iter().map(best).collect();
        ious.sort_by(f32::total_cmp);
        let hits = ious.iter().filter(|&&iou| iou >= 0.4).count() as f32;
        let median = ious[ious.len() / 2];
        println!("{side} px: {hits} of {}, {} found, median IoU {median:.3}", truth.len(), found.len());
        assert!(hits >= recall * truth.len() as f32 && hits >= 0.95 * found.len() as f32 && median > 0.75);
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn color_and_gray_give_the_same_for_a_gray_picture() {
    let Some((detector, faces)) = setup(8) else { return };
    let (pixels, width, height, _) = page(&faces, 64);
    let color: Vec<u8> = pixels.iter().flat_map(|&value| [value; 3]).collect();
    let gray = detector.detect(Picture::gray(&pixels, width, height).unwrap(), &Options::default()).unwrap();
    let same = detector.detect(Picture::rgb(&color, width, height).unwrap(), &Options::default()).unwrap();
    assert!(!gray.is_empty() && gray == same);
}

#[test]
fn bfloat16_finds_the_same_faces() {
    let Some((detector, faces)) = setup(48) else { return };
    let rounding = detector.clone().with_bf16();
    if !rounding.is_bf16() {
        println!("skipped: this processor has no AVX-512 BF16");
        return;
    }
    let (mut count, mut overlaps, mut scores) = (0, Vec::new(), 0.0f32);
    for side in [40, 64, 96] {
        let (pixels, width, height, _) = page(&faces, side);
        let picture = Picture::gray(&pixels, width, height).unwrap();
        let found = [&detector, &rounding].map(|detector| detector.detect(picture, &Options::default()).unwrap());
        count += found[0].len();
        for face in &found[0] {
            let square = |face: &Face| Square { x: face.x, y: face.y, side: (face.width * face.height).sqrt() };
            let best =
                found[1].iter().max_by(|a, b| iou(square(face), square(a)).total_cmp(&iou(square(face), square(b))));
            let best = best.unwrap();
            // A face at the threshold may be lost.
            if face.score > 0.36 {
                overlaps.push(iou(square(face), square(best)));
                scores = scores.max((face.score - best.score).abs());
            }
        }
        assert!(found[0].len().abs_diff(found[1].len()) <= 2, "{} {}", found[0].len(), found[1].len());
    }
    overlaps.sort_by(f32::total_cmp);
    println!(
        "{count} faces, IoU {} to {}, median {}, scores differ by {scores}",
        overlaps[0],
        overlaps[overlaps.len() - 1],
        overlaps[overlaps.len() / 2]
    );
    assert!(overlaps[0] > 0.98 && scores < 0.015);
}
