//! Runs a network on many images, in batches.

use std::ops::Range;

use anyhow::{Context as _, Result, anyhow};
use tch::{Device, Kind, Tensor};

use crate::data::device_images::{DeviceImages, scale_to_unit};
use crate::device::{self, ProcessGroup, catch_torch_panics, is_out_of_memory};
use crate::metrics::{Predictions, ViewPredictions};
use crate::model::{Mode, Net};
use crate::transforms::tta::{Tta, TtaTransform};

/// Batch size on a CPU, which is faster when a batch fits its caches.
pub const CPU_BATCH: u64 = 128;

/// Limits of the batch size on a GPU, which is faster with a large batch.
const GPU_BATCH: (u64, u64) = (64, 2048);

/// Batch size of inference with a network whose largest activation has `largest` elements per
/// image, on a device with `memory` bytes.
fn batch_size(device: Device, largest: u64, memory: Option<u64>) -> i64 {
    if device == Device::Cpu {
        return CPU_BATCH as i64;
    }
    // A sixteenth of the memory for a layer's input and output in float32; training leaves its own
    // memory reserved, and cuDNN takes workspaces.
    let bytes_per_image = (2 * 4 * largest).max(1);
    let fitting = memory.map_or(GPU_BATCH.1, |memory| memory / 16 / bytes_per_image);
    fitting.clamp(GPU_BATCH.0, GPU_BATCH.1) as i64
}

/// Computes the logits of the transformed images of `range`, float32 [N, classes] on the device; `None` if
/// `should_stop` returned `true` before a batch. A batch that does not fit into memory is halved.
///
/// Always float32 without TF32, whatever the precision of training: reported metrics are those of
/// the saved and exported weights.
fn compute_logits(
    net: &Net,
    images: &DeviceImages,
    range: Range<i64>,
    transform: TtaTransform,
    should_stop: impl Fn() -> bool,
) -> Result<Option<Tensor>> {
    let memory = match images.device() {
        Device::Cuda(index) => device::cuda_memory(index),
        _ => None,
    };
    let mut size = batch_size(images.device(), net.largest_activation(), memory);
    let mut parts = Vec::new();
    let Range { mut start, end } = range;
    while start < end {
        if should_stop() {
            return Ok(None);
        }
        let run = || -> Result<Tensor> {
            let pixels = transform.apply(&scale_to_unit(&images.slice(start, size.min(end - start))?)?)?;
            tch::no_grad(|| net.forward(&pixels, Mode::Inference))
        };
        match catch_torch_panics(run) {
            Ok(logits) => {
                parts.push(logits);
                start += size;
            }
            Err(error) if size > 1 && is_out_of_memory(&format!("{error:#}")) => size /= 2,
            Err(error) if is_out_of_memory(&format!("{error:#}")) => {
                return Err(anyhow!(
                    "the device has too little memory to run the network on one image: end other programs on it (see \
                     nvidia-smi), or use device cpu"
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Tensor::f_cat(&parts, 0)?))
}

/// Predicts `images` without test-time augmentation.
pub fn predict(net: &Net, images: &DeviceImages) -> Result<Predictions> {
    predict_interruptible(net, images, || false)?.context("inference was interrupted")
}

/// Like [`predict`], but returns `None` if `should_stop` returned `true` before a batch.
pub fn predict_interruptible(
    net: &Net,
    images: &DeviceImages,
    should_stop: impl Fn() -> bool,
) -> Result<Option<Predictions>> {
    predict_transformed(net, images, TtaTransform::IDENTITY, should_stop)
}

/// Predicts each view of `images` of test-time augmentation; their mean is the prediction.
pub fn predict_with_tta(net: &Net, images: &DeviceImages, tta: Tta) -> Result<ViewPredictions> {
    let predict =
        |transform| predict_transformed(net, images, transform, || false)?.context("inference was interrupted");
    Ok(ViewPredictions(tta.transforms().into_iter().map(predict).collect::<Result<Vec<_>>>()?))
}

fn predict_transformed(
    net: &Net,
    images: &DeviceImages,
    transform: TtaTransform,
    should_stop: impl Fn() -> bool,
) -> Result<Option<Predictions>> {
    let logits = compute_logits(net, images, 0..images.len(), transform, should_stop)?;
    logits.map(|logits| to_predictions(net, &logits)).transpose()
}

/// Like [`predict`] with the processes of a group, of which each predicts a part of the images and gets
/// all predictions. `stop` is called by all of them together; what it returns ends the prediction.
pub fn predict_in_group<S>(
    net: &Net,
    images: &DeviceImages,
    group: &ProcessGroup,
    stop: impl Fn() -> Result<Option<S>>,
) -> Result<std::result::Result<Predictions, S>> {
    // Batches are those of one process, so that each image has the same logits.
    let share = if images.device() == Device::Cpu { CPU_BATCH } else { GPU_BATCH.1 } as i64;
    let (count, size) = (images.len(), group.size() as i64);
    let mut logits = Tensor::f_zeros([count, net.classes() as i64], (Kind::Float, images.device()))?;
    let mut start = 0;
    while start < count {
        if let Some(reason) = stop()? {
            return Ok(Err(reason));
        }
        let own = start + share * group.rank() as i64;
        let end = (own + share).min(count);
        if own < end {
            let part = compute_logits(net, images, own..end, TtaTransform::IDENTITY, || false)?;
            logits.f_narrow(0, own, end - own)?.f_copy_(&part.context("inference was interrupted")?)?;
        }
        start += share * size;
    }
    // Sums with zeros are exact.
    group.all_reduce(&mut logits)?;
    to_predictions(net, &logits).map(Ok)
}

/// Predictions from logits, float32 [N, classes] on the device.
fn to_predictions(net: &Net, logits: &Tensor) -> Result<Predictions> {
    let probabilities = logits.f_softmax(-1, Kind::Float)?;
    // One copy for both, because each waits for the device.
    let mut values: Vec<f32> =
        Vec::try_from(Tensor::f_cat(&[logits, &probabilities], 0)?.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
    let probabilities = values.split_off(values.len() / 2);
    Ok(Predictions { logits: values, probabilities, classes: net.classes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::testing::{golden_image, networks};

    #[test]
    fn batches_on_a_gpu_fit_its_memory() {
        let gib = 1u64 << 30;
        let size = |largest, memory| batch_size(Device::Cuda(0), largest, memory);
        assert_eq!(batch_size(Device::Cpu, 1 << 20, None), 128);
        assert_eq!((size(50_000, Some(80 * gib)), size(50_000, None)), (2048, 2048));
        // The first layer of best/gpu.toml: 64 channels of 48x48.
        let large = 64 * 48 * 48;
        assert_eq!(size(large, Some(4 * gib)), 227);
        assert_eq!(size(1 << 30, Some(4 * gib)), 64, "halved when it does not fit");
    }

    #[test]
    fn flip_tta_gives_a_flipped_image_the_same_probabilities() {
        let net = Net::new(&networks().swap_remove(0), 5, 3, Device::Cpu).unwrap();
        let pixels = [golden_image(1), golden_image(2)].concat();
        let flipped: Vec<u8> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        let run = |pixels: &[u8], tta| {
            let images = Images { pixels: pixels.to_vec().into(), rows: vec![0, 1], ..Images::default() };
            predict_with_tta(&net, &DeviceImages::new(&images, Device::Cpu).unwrap(), tta)
                .unwrap()
                .mean(1.0)
                .unwrap()
                .probabilities
        };
        let difference = |tta| {
            let pairs = run(&pixels, tta).into_iter().zip(run(&flipped, tta));
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(difference(Tta::None) > 1e-4, "the network distinguishes the images: {}", difference(Tta::None));
        assert!(difference(Tta::Flip) < 1e-6 && difference(Tta::TenCrop) < 1e-6);
        let mean = |index: usize| (run(&pixels, Tta::None)[index] + run(&flipped, Tta::None)[index]) / 2.0;
        assert!(run(&pixels, Tta::Flip).iter().enumerate().all(|(index, got)| (got - mean(index)).abs() < 1e-6));
    }
}
