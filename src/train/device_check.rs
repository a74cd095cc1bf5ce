//! `grimace doctor --device`: trains a few steps on the CPU and on another device, and compares them.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::epoch_schedule::{EpochPlan, EpochSchedule};
use super::step::Trainer;
use crate::config::TrainConfig;
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS};
use crate::data::sampler::Sampler;
use crate::device::{self, Placement};
use crate::model::Net;
use crate::model::cnn::CnnConfig;
use crate::model::config::ModelConfig;
use crate::optim::optimizer::{OptimizerConfig, SgdConfig};
use crate::optim::step_scalars::StepScalars;
use crate::run_dir::checkpoint::{NamedTensors, State};
use crate::synthetic;
use crate::transforms::{Augment, AugmentConfig};

const SEED: u64 = 7;
const BATCH: usize = 64;
/// Small, so that a difference of rounding stays one: then the weights differ by as much as the
/// gradients.
const LEARNING_RATE: f64 = 1e-3;
/// Steps that are compared.
const STEPS: u64 = 4;
/// Steps that are timed, after as many as are compared.
const TIMED_STEPS: u64 = 100;

/// The comparison of a device with the CPU in one precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Precision on the device; that of the CPU is always float32.
    pub precision: &'static str,
    /// Largest difference of the losses, relative to the CPU's.
    pub loss_difference: f64,
    /// The larger difference of parameters and of running statistics: its norm, relative to the norm
    /// of their change on the CPU.
    pub weight_difference: f64,
    /// What both differences may be at most.
    pub tolerance: f64,
    /// Training speed on the device with batches of 64, without validation.
    pub images_per_second: f64,
    /// Whether both differences are within the tolerance.
    pub ok: bool,
}

/// Trains the notebook's network on synthetic images on the CPU and on `device`, in float32 and if
/// `bf16` in bfloat16 too. Dropout is off, because devices draw different numbers.
///
/// Rounding changes which unit of a max pooling is the largest, and so gradients: bfloat16 differs
/// from float32 by a fifth on the CPU too.
///
/// # Errors
/// Those of libtorch.
pub fn compare(device: Device, bf16: bool) -> Result<Vec<Comparison>> {
    // libtorch's operations, because the custom kernels round differently.
    let expected = device::without_kernels(|| train(Device::Cpu, Kind::Float, STEPS))?;
    let mut precisions = vec![("f32", Kind::Float, 2e-2)];
    if bf16 {
        precisions.push(("bf16", Kind::BFloat16, 0.4));
    }
    precisions
        .into_iter()
        .map(|(precision, kind, tolerance)| {
            let found = train(device, kind, STEPS)?;
            let pairs = expected.losses.iter().zip(&found.losses);
            // NaN is the largest.
            let loss_difference = pairs.map(|(a, b)| ((a - b) / a).abs()).fold(0.0, larger);
            let weight_difference = largest_difference(&found.weights, &expected.weights, &expected.initial)?;
            let ok = loss_difference <= tolerance && weight_difference <= tolerance;
            let images_per_second = train(device, kind, STEPS + TIMED_STEPS)?.images_per_second;
            Ok(Comparison { precision, loss_difference, weight_difference, tolerance, images_per_second, ok })
        })
        .collect()
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

struct Trained {
    losses: Vec<f64>,
    initial: NamedTensors,
    weights: NamedTensors,
    /// Of the steps after the first [`STEPS`].
    images_per_second: f64,
}

fn train(device: Device, kind: Kind, steps: u64) -> Result<Trained> {
    let count = BATCH * usize::try_from(steps)?;
    let labels: Vec<u8> = (0..count as u64).map(|index| synthetic::label(SEED, index) as u8).collect();
    // As many images as are compared, again and again: generating them takes longer than training.
    let distinct = BATCH * STEPS as usize;
    let faces: Vec<[u8; PIXELS]> = (0..distinct as u64)
        .zip(&labels)
        .map(|(index, label)| synthetic::generate(SEED, index, usize::from(*label)))
        .collect();
    let pixels: Vec<u8> = faces.iter().cycle().take(count).flatten().copied().collect();
    let labels = labels.iter().take(distinct).cycle().take(count).copied().collect();
    let images =
        Images { pixels: pixels.into(), labels: Some(labels), rows: (0..count as u32).collect(), ..Images::default() };
    let sgd = SgdConfig { lr: LEARNING_RATE, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let config = TrainConfig { batch: BATCH, optimizer: OptimizerConfig::Sgd(sgd), ..TrainConfig::default() };
    let model = ModelConfig::Cnn(CnnConfig { dropout: 0.0, ..CnnConfig::default() });
    let placement = Placement { device, kind, tf32: false, reason: None, processes: 1 };
    let plan = EpochPlan::new(count, BATCH);
    let net = Net::new(&model, synthetic::EMOTIONS, SEED, device)?;
    let mut trainer = Trainer::new(net, DeviceImages::new(&images, device)?, &config, &placement, SEED, plan)?;
    let scalars = (0..steps).map(|step| StepScalars::on_host(LEARNING_RATE, step + 1, 0.0)).collect();
    let augment = Augment::new(&AugmentConfig::default(), SEED, 50);
    let sampler = Sampler::Shuffle(count);
    let schedule = EpochSchedule::new(SEED, 0, &sampler, BATCH, &augment, scalars, trainer.images())?;
    let copy = |tensors: NamedTensors| -> Result<NamedTensors> {
        tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_detach_copy()?))).collect()
    };
    let initial = copy(trainer.snapshot()?.evaluation_weights())?;
    trainer.begin_epoch(schedule, 0, crate::data::images::SIDE)?;
    let (mut state, mut losses, mut start) = (State::default(), Vec::new(), Instant::now());
    for step in 0..steps {
        trainer.step(0, step)?;
        state.step = step + 1;
        if step < STEPS {
            let before = state.loss_sum;
            // Waits for the device, so the timed steps start with nothing left to do.
            trainer.collect(&mut state)?;
            losses.push((state.loss_sum - before) / BATCH as f64);
            start = Instant::now();
        }
    }
    trainer.collect(&mut state)?;
    let timed = (steps.saturating_sub(STEPS) * BATCH as u64) as f64;
    let images_per_second = timed / start.elapsed().as_secs_f64().max(1e-9);
    let weights = copy(trainer.snapshot()?.evaluation_weights())?;
    Ok(Trained { losses, initial, weights, images_per_second })
}

/// The larger difference of parameters and of running statistics, which change much more: the norm
/// of the difference of `found` and `expected`, relative to the change from `initial`.
fn largest_difference(found: &NamedTensors, expected: &NamedTensors, initial: &NamedTensors) -> Result<f64> {
    let squares = |of_statistics: bool, a: &NamedTensors, b: &NamedTensors| -> Result<f64> {
        let is_of_group = |name: &str| name.contains("running_") == of_statistics;
        let pairs = a.iter().zip(b).filter(|((name, _), _)| is_of_group(name));
        let square = |((name, a), (_, b)): (&(String, Tensor), &(String, Tensor))| -> Result<f64> {
            let difference = a.f_sub(b).with_context(|| format!("tensor {name}"))?;
            Ok(f64::try_from(difference.f_to_kind(Kind::Double)?.f_square()?.f_sum(Kind::Double)?)?)
        };
        pairs.map(square).sum()
    };
    [false, true].into_iter().try_fold(0.0, |largest, of_statistics| {
        let (difference, change) =
            (squares(of_statistics, found, expected)?, squares(of_statistics, expected, initial)?);
        Ok(larger(largest, (difference / change).sqrt()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_and_bf16_nearly() {
        let found = device::without_kernels(|| compare(Device::Cpu, true)).unwrap();
        let [f32, bf16] = &found[..] else { panic!("{found:?}") };
        assert_eq!((f32.loss_difference, f32.weight_difference, f32.ok), (0.0, 0.0, true));
        assert!(bf16.ok && bf16.weight_difference > 1e-4, "{bf16:?}");
        assert!(f32.images_per_second > 0.0);
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, f64::NAN).is_nan());
        // Parameters that have not changed at all, and statistics that have changed half as much.
        let tensors = |weight: f32, mean: f32| {
            [("a.weight", weight), ("a.running_mean", mean)]
                .map(|(name, value)| (name.to_owned(), Tensor::from_slice(&[value, value])))
                .into_iter()
                .collect::<NamedTensors>()
        };
        let (initial, expected) = (tensors(1.0, 100.0), tensors(2.0, 200.0));
        let difference = |found: NamedTensors| largest_difference(&found, &expected, &initial).unwrap();
        assert_eq!((difference(tensors(2.0, 200.0)), difference(tensors(1.0, 200.0))), (0.0, 1.0));
        assert_eq!(difference(tensors(2.0, 150.0)), 0.5);
        assert!(difference(tensors(f32::NAN, 200.0)).is_nan());
    }
}
