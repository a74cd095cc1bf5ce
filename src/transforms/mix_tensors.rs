//! The mixing of all batches of an epoch as tensors on a GPU, where each step reads its own.
//!
//! Mixup and CutMix are one formula: `image + w (next - image)` with a weight w per pixel, which is
//! `1 - lambda` everywhere for mixup, and 1 in the box and 0 outside for CutMix.

use anyhow::Result;
use tch::{Device, Tensor};

use super::mixup::Mix;
use crate::data::images::SIDE;

/// Weights of the next image for each step.
#[derive(Debug)]
pub struct MixTensors {
    /// float32 [steps, 2 * 48 + 1]: weights of rows, of columns, and of targets. The weight of a
    /// pixel is the product of its row's and its column's.
    steps: Tensor,
}

/// Weights of one step.
#[derive(Debug)]
pub struct MixRow {
    /// float32 [2 * 48 + 1], see [`MixTensors`].
    weights: Tensor,
}

/// The mixing of one batch.
#[derive(Debug)]
pub enum BatchMix {
    /// Known on the host.
    Host(Mix),
    /// Read on the device.
    Device(MixRow),
}

impl BatchMix {
    /// Mixes `images` ([B, 1, 48, 48]; float32, or on the host also bf16), which may be modified in
    /// place.
    pub fn mix_images(&self, images: Tensor) -> Result<Tensor> {
        match self {
            Self::Host(mix) => mix.mix_images(images),
            Self::Device(row) => row.mix_images(&images),
        }
    }

    /// Mixes soft targets (float32 [B, classes]) with the weights of the images.
    pub fn mix_targets(&self, soft: &Tensor) -> Result<Tensor> {
        match self {
            Self::Host(mix) => mix.mix_targets(soft),
            Self::Device(row) => row.mix_targets(soft),
        }
    }
}

impl MixTensors {
    /// Copies the mixing of each step to `device`.
    pub fn new(mixes: &[Mix], device: Device) -> Result<Self> {
        let values: Vec<f32> = mixes.iter().flat_map(weights).collect();
        Ok(Self { steps: Tensor::f_from_slice(&values)?.f_view([mixes.len() as i64, -1])?.f_to_device(device)? })
    }

    /// All weights, float32 [steps, 97].
    pub fn steps(&self) -> &Tensor {
        &self.steps
    }
}

fn weights(mix: &Mix) -> Vec<f32> {
    let (rows, columns) = match mix {
        Mix::Mixup { lambda } => ([(1.0 - lambda) as f32; SIDE], [1.0; SIDE]),
        Mix::Cutmix { cut } => {
            let span = |start: i64, length: i64| {
                std::array::from_fn(|position| f32::from((start..start + length).contains(&(position as i64))))
            };
            (span(cut.top, cut.height), span(cut.left, cut.width))
        }
    };
    let target = (1.0 - mix.lambda()) as f32;
    rows.into_iter().chain(columns).chain([target]).collect()
}

impl MixRow {
    /// The weights of a step: a row of [`MixTensors::steps`].
    pub fn new(weights: Tensor) -> Self {
        Self { weights }
    }

    /// Mixes `images`, float32 [B, 1, 48, 48].
    pub fn mix_images(&self, images: &Tensor) -> Result<Tensor> {
        let side = SIDE as i64;
        let rows = self.weights.f_narrow(0, 0, side)?.f_view([side, 1])?;
        let columns = self.weights.f_narrow(0, side, side)?.f_view([1, side])?;
        blend(images, &rows.f_mul(&columns)?)
    }

    /// Mixes soft targets, float32 [B, classes].
    pub fn mix_targets(&self, soft: &Tensor) -> Result<Tensor> {
        blend(soft, &self.weights.f_narrow(0, 2 * SIDE as i64, 1)?)
    }
}

fn blend(rows: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(rows.f_lerp_tensor(&rows.f_roll([-1i64], [0i64])?, weight)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::CutBox;
    use tch::Kind;

    #[test]
    fn tensors_mix_like_the_host() {
        let images = Tensor::arange(3 * 48 * 48, (Kind::Float, Device::Cpu)).view([3, 1, 48, 48]) / 7000.0;
        let soft = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.5, 0.5]).view([3, 2]);
        let cut = CutBox { top: 0, left: 35, height: 22, width: 13 };
        let empty = CutBox { top: 5, left: 5, height: 0, width: 0 };
        let mixes = [Mix::Mixup { lambda: 0.7 }, Mix::Cutmix { cut }, Mix::Cutmix { cut: empty }];
        let tensors = MixTensors::new(&mixes, Device::Cpu).unwrap();
        for (step, mix) in (0..).zip(&mixes) {
            let row = MixRow::new(tensors.steps().select(0, step));
            let difference = |a: Tensor, b: Tensor| (a - b).abs().max().double_value(&[]);
            let expected = mix.mix_images(images.copy()).unwrap();
            assert!(difference(row.mix_images(&images).unwrap(), expected) < 1e-6, "{mix:?}");
            assert!(difference(row.mix_targets(&soft).unwrap(), mix.mix_targets(&soft).unwrap()) < 1e-6, "{mix:?}");
        }
    }
}
