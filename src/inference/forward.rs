//! Runs a network on many images, in batches.

use anyhow::{Context as _, Result};
use tch::{Device, Kind, Tensor};

use crate::data::device_images::{DeviceImages, scale_to_unit};
use crate::metrics::predictions::Predictions;
use crate::model::{Mode, Net};
use crate::transforms::tta::{Tta, TtaTransform};

/// Batch size of inference. A CPU is faster when a batch fits its caches; a GPU needs a large one.
fn batch_size(device: Device) -> i64 {
    if device == Device::Cpu { CPU_BATCH as i64 } else { 2048 }
}

/// Batch size on a CPU.
pub const CPU_BATCH: u64 = 128;

/// Computes the logits of the transformed images, float32 [N, classes] on the device; `None` if
/// `should_stop` returned `true` before a batch.
///
/// Always float32, whatever the precision of training: reported metrics are those of the saved and
/// exported weights.
fn compute_logits(
    net: &Net,
    images: &DeviceImages,
    transform: TtaTransform,
    should_stop: impl Fn() -> bool,
) -> Result<Option<Tensor>> {
    let size = batch_size(images.device());
    let mut parts = Vec::new();
    for start in (0..images.len()).step_by(usize::try_from(size)?) {
        if should_stop() {
            return Ok(None);
        }
        let pixels = transform.apply(&scale_to_unit(&images.slice(start, size)?)?)?;
        parts.push(tch::no_grad(|| net.forward(&pixels, Mode::Inference))?);
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

/// Predicts `images` with test-time augmentation: averages the probabilities over the transforms of
/// `tta` ([`Predictions::average`]).
pub fn predict_with_tta(net: &Net, images: &DeviceImages, tta: Tta) -> Result<Predictions> {
    let predict =
        |transform| predict_transformed(net, images, transform, || false)?.context("inference was interrupted");
    Predictions::average(&tta.transforms().into_iter().map(predict).collect::<Result<Vec<_>>>()?)
}

fn predict_transformed(
    net: &Net,
    images: &DeviceImages,
    transform: TtaTransform,
    should_stop: impl Fn() -> bool,
) -> Result<Option<Predictions>> {
    let Some(logits) = compute_logits(net, images, transform, should_stop)? else { return Ok(None) };
    let probabilities = logits.f_softmax(-1, Kind::Float)?;
    let to_vec = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?)
    };
    Ok(Some(Predictions { logits: to_vec(&logits)?, probabilities: to_vec(&probabilities)?, classes: net.classes() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::testing::{golden_image, networks};

    #[test]
    fn flip_tta_gives_a_flipped_image_the_same_probabilities() {
        let net = Net::new(&networks().swap_remove(0), 5, 3, Device::Cpu).unwrap();
        let pixels = [golden_image(1), golden_image(2)].concat();
        let flipped: Vec<u8> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        let run = |pixels: &[u8], tta| {
            let images = Images { pixels: pixels.to_vec(), rows: vec![0, 1], ..Images::default() };
            predict_with_tta(&net, &DeviceImages::new(&images, Device::Cpu).unwrap(), tta).unwrap().probabilities
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
