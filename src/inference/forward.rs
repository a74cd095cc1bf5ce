//! Running a network over many images.

use anyhow::{Context as _, Result};
use tch::{Device, Kind, Tensor};

use crate::data::device_images::{DeviceImages, to_unit};
use crate::metrics::predictions::Predictions;
use crate::model::{Mode, Net};
use crate::transforms::tta::{Tta, TtaTransform};

/// Images in a batch of inference: large enough to keep a GPU busy; on a CPU what fits its caches is faster.
fn batch(device: Device) -> i64 {
    if device == Device::Cpu { CPU_BATCH as i64 } else { 2048 }
}

/// The batch on a CPU.
pub const CPU_BATCH: u64 = 128;

/// Logits of all images as `view` shows them, float32 [N, classes] on the device; `None` when `stops` said so between two batches.
///
/// Always in float32, whatever precision training uses: what is reported is what the saved and exported weights give.
fn logits(
    net: &Net,
    images: &DeviceImages,
    transform: TtaTransform,
    stops: impl Fn() -> bool,
) -> Result<Option<Tensor>> {
    let size = batch(images.device());
    let mut parts = Vec::new();
    for start in (0..images.len()).step_by(usize::try_from(size)?) {
        if stops() {
            return Ok(None);
        }
        let pixels = transform.apply(&to_unit(&images.slice(start, size)?)?)?;
        parts.push(tch::no_grad(|| net.forward(&pixels, Mode::Inference))?);
    }
    Ok(Some(Tensor::f_cat(&parts, 0)?))
}

/// Runs `net` over `images` as they are.
///
/// # Errors
/// libtorch's.
pub fn predict(net: &Net, images: &DeviceImages) -> Result<Predictions> {
    predict_interruptible(net, images, || false)?.context("running the network was stopped")
}

/// As [`predict`], asking `stops` between batches; `None` when it said yes.
///
/// # Errors
/// libtorch's.
pub fn predict_interruptible(
    net: &Net,
    images: &DeviceImages,
    stops: impl Fn() -> bool,
) -> Result<Option<Predictions>> {
    run(net, images, TtaTransform::IDENTITY, stops)
}

/// As [`predict`], averaged over `tta` of each image, see [`average`](Predictions::average).
///
/// # Errors
/// libtorch's.
pub fn predict_with_tta(net: &Net, images: &DeviceImages, tta: Tta) -> Result<Predictions> {
    let through = |transform| run(net, images, transform, || false)?.context("running the network was stopped");
    Predictions::average(&TtaTransform::all(tta).into_iter().map(through).collect::<Result<Vec<_>>>()?)
}

fn run(
    net: &Net,
    images: &DeviceImages,
    transform: TtaTransform,
    stops: impl Fn() -> bool,
) -> Result<Option<Predictions>> {
    let Some(logits) = logits(net, images, transform, stops)? else { return Ok(None) };
    let probabilities = logits.f_softmax(-1, Kind::Float)?;
    let read = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?)
    };
    Ok(Some(Predictions { logits: read(&logits)?, probabilities: read(&probabilities)?, classes: net.classes() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::Images;
    use crate::testing::{golden_image, networks};

    #[test]
    fn a_mirrored_image_has_the_same_average() {
        let net = Net::new(&networks().swap_remove(0), 5, 3, Device::Cpu).unwrap();
        let pixels = [golden_image(1), golden_image(2)].concat();
        let mirrored: Vec<u8> = pixels.chunks(48).flat_map(|row| row.iter().rev().copied()).collect();
        let run = |pixels: &[u8], tta| {
            let images = Images { pixels: pixels.to_vec(), rows: vec![0, 1], ..Images::default() };
            predict_with_tta(&net, &DeviceImages::new(&images, Device::Cpu).unwrap(), tta).unwrap().probabilities
        };
        let difference = |tta| {
            let pairs = run(&pixels, tta).into_iter().zip(run(&mirrored, tta));
            pairs.map(|(own, other)| (own - other).abs()).fold(0.0, f32::max)
        };
        assert!(difference(Tta::None) > 1e-4, "the network tells the two apart: {}", difference(Tta::None));
        assert!(difference(Tta::Flip) < 1e-6 && difference(Tta::TenCrop) < 1e-6);
        let mean = |number: usize| (run(&pixels, Tta::None)[number] + run(&mirrored, Tta::None)[number]) / 2.0;
        assert!(run(&pixels, Tta::Flip).iter().enumerate().all(|(number, got)| (got - mean(number)).abs() < 1e-6));
    }
}
