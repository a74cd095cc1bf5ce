//! The whole detector with made-up weights: it must take any picture and never panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers outside of test functions

use face_detect::{Detector, Error, Options, Picture};

/// Encodes a protobuf field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

/// Bias for boxes of 49 pixels of the network's input.
const LARGE: f32 = 2.5;

/// An ONNX file of CenterFace's shape. `center` is the logit of every face's score, `size` the log of
/// its side in cells.
fn model(center: f32, size: f32) -> Vec<u8> {
    let (mut graph, mut count) = (Vec::new(), 0u32);
    let mut layer = |operator: &str, shapes: &[&[usize]], bias: f32| {
        let mut node = field(4, operator.as_bytes());
        for (i, shape) in shapes.iter().enumerate() {
            let name = format!("t{count}.{i}");
            let size: usize = shape.iter().product();
            let value = |at: usize| if i == 1 { bias } else { ((at * 7919) % 199) as f32 / 4000.0 };
            let raw: Vec<u8> = (0..size).flat_map(|at| value(at).to_le_bytes()).collect();
            let mut tensor = field(8, name.as_bytes());
            for &size in *shape {
                tensor.extend([1 << 3, size as u8 | 0x80, (size >> 7) as u8]);
            }
            tensor.extend([2 << 3, 1]);
            tensor.extend(field(9, &raw));
            graph.extend(field(5, &tensor));
            node.extend(field(1, name.as_bytes()));
        }
        count += 1;
        graph.extend(field(1, &node));
    };
    let narrow = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320];
    let mut from = 3;
    for (i, to) in narrow.into_iter().enumerate() {
        let wide = if i < 2 { [32, 96][i] } else { 6 * from };
        let kernel = if i == 0 { 3 } else { 1 };
        layer("Conv", &[&[wide, from, kernel, kernel], &[wide]], 0.0);
        layer("Conv", &[&[wide, 1, 3, 3], &[wide]], 0.0);
        layer("Conv", &[&[to, wide, 1, 1], &[to]], 0.0);
        from = to;
    }
    layer("Conv", &[&[24, 320, 1, 1], &[24]], 0.0);
    for side in [96, 32, 24] {
        layer("ConvTranspose", &[&[24, 24, 2, 2]], 0.0);
        layer("BatchNormalization", &[&[24], &[24], &[24], &[24]], 0.0);
        layer("Conv", &[&[24, side, 1, 1], &[24]], 0.0);
    }
    // Only ReLU of a negative bias: whatever comes in, the heads see zeros.
    layer("Conv", &[&[24, 24, 3, 3], &[24]], f32::MIN);
    // Score, log of the size in cells of 4 pixels, offset of the center, points in the face.
    for (outputs, bias) in [(1, center), (2, size), (2, 0.5), (10, 0.5)] {
        layer("Conv", &[&[outputs, 24, 1, 1], &[outputs]], bias);
    }
    field(7, &graph)
}

#[test]
fn pictures_of_any_size_are_searched() {
    let detector = Detector::from_bytes(&model(2.0, LARGE)).unwrap();
    for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 10_000), (10_000, 1), (31, 33), (640, 480), (2500, 2100)] {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect();
        for picture in [
            Picture::rgb(&pixels, width, height).unwrap(),
            Picture::gray(&pixels[..width * height], width, height).unwrap(),
        ] {
            let faces = detector.detect(picture, &Options::default()).unwrap();
            // All cells have the same score, so that the first of each tile is a peak.
            assert_eq!(faces.is_empty(), width * height == 0, "{width} x {height}");
            for face in faces {
                assert!((face.score - 0.8808).abs() < 1e-3, "{face:?}");
                assert!(
                    [face.x, face.y].iter().all(|value| value.is_finite()) && face.width > 0.0 && face.height > 0.0
                );
            }
        }
    }
}

#[test]
fn a_search_can_be_stopped_before_each_tile() {
    let detector = Detector::from_bytes(&model(2.0, LARGE)).unwrap();
    let (width, height) = (2500, 2100);
    let pixels = vec![128; width * height];
    let picture = Picture::gray(&pixels, width, height).unwrap();
    let calls = std::cell::Cell::new(0);
    let search = |limit: usize| {
        calls.set(0);
        let stop = || {
            calls.set(calls.get() + 1);
            calls.get() > limit
        };
        detector.detect_until(picture, &Options::default(), stop).unwrap()
    };
    assert!(search(2).is_empty());
    assert_eq!(calls.get(), 3);
    // Four tiles of the first level, and one of each smaller level.
    assert!(!search(usize::MAX).is_empty());
    assert!(calls.get() >= 5, "{}", calls.get());
}

#[test]
fn low_scores_are_no_faces() {
    let detector = Detector::from_bytes(&model(-2.0, LARGE)).unwrap();
    let picture = Picture::gray(&[128; 100 * 100], 100, 100).unwrap();
    assert!(detector.detect(picture, &Options::default()).unwrap().is_empty());
    let found = detector.detect(picture, &Options { threshold: 0.1, ..Options::default() }).unwrap();
    assert!(!found.is_empty());
    assert!(matches!(
        detector.detect(picture, &Options { threshold: 2.0, ..Options::default() }),
        Err(Error::Options(_))
    ));
}

#[test]
fn faces_under_the_smallest_size_are_left_out() {
    let picture = Picture::gray(&[128; 100 * 100], 100, 100).unwrap();
    for (size, found) in [(0.5, false), (LARGE, true)] {
        let faces = Detector::from_bytes(&model(2.0, size)).unwrap().detect(picture, &Options::default()).unwrap();
        assert_eq!(!faces.is_empty(), found, "{faces:?}");
    }
}

#[test]
fn other_files_are_refused() {
    let model = model(0.0, LARGE);
    for bytes in [&b""[..], b"GRIF", &model[..model.len() / 2], &[0xff; 1000]] {
        assert!(matches!(Detector::from_bytes(bytes), Err(Error::Weights(_))));
    }
    assert!(matches!(Detector::open("/nowhere/centerface.onnx".as_ref()), Err(Error::Read(_))));
}
