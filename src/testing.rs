//! Helpers of unit tests: golden files, and the images and weights that scripts/golden/formulas.py
//! computes with the same formulas.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use serde_json::Value;
use tch::Tensor;

use crate::model::cnn::{CnnConfig, Padding, Pooling};
use crate::model::color_input::InputKind;
use crate::model::config::ModelConfig;
use crate::model::layers::Activation;
use crate::model::resnet::ResnetConfig;
use crate::model::vgg::VggConfig;
use crate::model::{Downsample, StemPool};

/// Parses a file of tests/golden.
pub fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// An image as a file.
pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Converts a JSON array of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn hash(i: u32, k: u32) -> u32 {
    let mut x = i.wrapping_add(k.wrapping_mul(0x9E37_79B9));
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Value `i` of the pseudo-random stream `k`, in 0..1.
pub fn unit(i: u32, k: u32) -> f64 {
    f64::from(hash(i, k)) / 4_294_967_296.0
}

/// Value `i` of the pseudo-random stream `k`, in -1..1.
pub fn signed(i: u32, k: u32) -> f64 {
    2.0 * unit(i, k) - 1.0
}

/// A float32 tensor of the pseudo-random stream `k`, in -1..1.
pub fn noise(size: &[i64], k: u32) -> Tensor {
    let values: Vec<f32> = (0..size.iter().product::<i64>() as u32).map(|i| signed(i, k) as f32).collect();
    Tensor::from_slice(&values).view(size)
}

/// Pixels of golden image `n`: smooth blobs and noise, 48x48 bytes.
pub fn golden_image(n: u64) -> Vec<u8> {
    let dx = ((5 * n) % 7) as f64 - 3.0;
    let dy = ((3 * n) % 5) as f64 - 2.0;
    let wide = 5.0 + (n % 4) as f64;
    let pixel = |index: u32| {
        let (x, y) = (f64::from(index % 48) - 23.5, f64::from(index / 48) - 23.5);
        let blob = |cx: f64, cy: f64, sx: f64, sy: f64| {
            let (u, w) = ((x - cx) / sx, (y - cy) / sy);
            1.0 / (1.0 + u * u + w * w)
        };
        let mut v = 30.0;
        v += 190.0 * blob(dx, dy, 17.0, 21.0);
        v -= 80.0 * blob(dx - 8.0, dy - 6.0, 4.0, 2.5);
        v -= 80.0 * blob(dx + 8.0, dy - 6.0, 4.0, 2.5);
        v += 35.0 * blob(dx, dy + 1.0, 2.0, 6.0);
        v -= 70.0 * blob(dx, dy + 11.0, wide, 2.0);
        v += 36.0 * (unit(index, 1000 + n as u32) - 0.5);
        v.floor().clamp(0.0, 255.0) as u8
    };
    (0..2304).map(pixel).collect()
}

/// The label of golden image `n`.
pub fn golden_label(n: u64) -> i64 {
    ((3 * n) % 7) as i64
}

/// Small networks of every architecture and option, without dropout. Each must run, give every
/// parameter a gradient, train with the custom kernels as with libtorch, and export.
pub fn networks() -> Vec<ModelConfig> {
    let base = || CnnConfig { filters: vec![16, 32], dense: vec![10], dropout: 0.0, ..CnnConfig::default() };
    let resnet = || ResnetConfig { stem: 16, widths: vec![16, 32], blocks: vec![1, 2], ..ResnetConfig::default() };
    let cnns = [
        base(),
        CnnConfig { convolutions: 2, ..base() },
        CnnConfig { kernel: 5, padding: Padding::Same, ..base() },
        CnnConfig { pooling: Pooling::Average, normalization: false, ..base() },
        CnnConfig { dense: vec![], activation: Activation::Gelu, ..base() },
        CnnConfig { dense: vec![12, 8], activation: Activation::Silu, ..base() },
        CnnConfig { activation: Activation::Elu, ..base() },
        CnnConfig { activation: Activation::LeakyRelu, pooling: Pooling::Average, ..base() },
    ];
    let vggs = [
        VggConfig { filters: vec![16, 32], dense: vec![10], dropout: 0.0, ..VggConfig::default() },
        VggConfig { filters: vec![6, 8, 10], convolutions: 1, dense: vec![], dropout: 0.0 },
    ];
    let resnets = [
        resnet(),
        ResnetConfig { stem_pool: StemPool::Off, squeeze: 0, ..resnet() },
        ResnetConfig { stem: 6, widths: vec![10, 12, 14], blocks: vec![1, 1, 1], squeeze: 4, ..resnet() },
        ResnetConfig {
            widths: vec![16, 16],
            blocks: vec![1, 1],
            stem_stride: 2,
            downsample: Downsample::Stride,
            ..resnet()
        },
        // torchvision's layers.
        ResnetConfig {
            input: InputKind::Imagenet,
            stem_kernel: 7,
            stem_stride: 2,
            stem_pool: StemPool::AfterRelu,
            downsample: Downsample::Stride,
            squeeze: 0,
            ..resnet()
        },
    ];
    let cnns = cnns.into_iter().map(ModelConfig::Cnn);
    cnns.chain(vggs.map(ModelConfig::Vgg)).chain(resnets.map(ModelConfig::Resnet)).collect()
}

mod tests {
    use super::*;

    #[test]
    fn formulas_match_python() {
        let probe = &golden("keras_cnn.json")["probe"];
        assert_eq!(u64::from(hash(1, 0)), probe["hash_1_0"].as_u64().unwrap());
        assert_eq!(u64::from(hash(524_287, 18)), probe["hash_524287_18"].as_u64().unwrap());
        let sums = numbers(&probe["image_sums"]);
        for (n, sum) in sums.iter().enumerate() {
            assert_eq!(golden_image(n as u64).iter().map(|v| f64::from(*v)).sum::<f64>(), *sum, "image {n}");
        }
    }
}
