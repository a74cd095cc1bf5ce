//! Batch norm followed by squeeze-and-excitation, stochastic depth, residual add and ReLU.
//!
//! They are one layer, because each of them alone would be a pass over memory.

use std::sync::Arc;

use anyhow::Result;
use tch::{Kind, Tensor, nn};

use super::Mode;
use super::cpu::norm_act::{self as cpu, ImageTransform, Relu, Transform};
use super::layers::{BatchNorm, Dense, PYTORCH};
use super::shard::{self, Shard};

/// Squeeze-and-excitation (Hu et al. 2018): scales each channel by a factor that two dense layers
/// compute from the means of all channels.
#[derive(Debug)]
pub struct SqueezeExcite {
    squeeze: Dense,
    excite: Dense,
}

impl SqueezeExcite {
    /// Creates the dense layers `squeeze` (`channels` to `width`) and `excite` (`width` to
    /// `channels`).
    pub fn new(path: &nn::Path, seed: u64, channels: i64, width: i64) -> Result<Self> {
        Ok(Self {
            squeeze: Dense::new(&path.sub("squeeze"), seed, channels, width)?,
            excite: Dense::new(&path.sub("excite"), seed, width, channels)?,
        })
    }

    /// Returns the trainable tensors.
    fn parameters(&self) -> [&Tensor; 4] {
        let (squeeze, excite) = (&self.squeeze, &self.excite);
        [&squeeze.weight, &squeeze.bias, &excite.weight, &excite.bias]
    }

    /// Computes the scales, in 0..1 [N, C], from the channel means [N, C].
    fn scales(&self, means: &Tensor) -> Result<Tensor> {
        Ok(self.excite.forward(&self.squeeze.forward(means)?.f_relu()?)?.f_sigmoid()?)
    }
}

/// Batch norm with optional squeeze-and-excitation, stochastic depth, residual add and ReLU.
#[derive(Debug)]
pub struct NormAct {
    norm: BatchNorm,
    gate: Option<SqueezeExcite>,
    relu: bool,
    /// Probability of stochastic depth: that an image skips the layer in training.
    drop: f64,
}

impl NormAct {
    /// Creates a batch norm with PyTorch's constants, followed by ReLU if `relu`. The tensors of
    /// the norm are directly under `path`.
    pub fn new(path: &nn::Path, channels: i64, relu: bool) -> Result<Self> {
        Ok(Self { norm: BatchNorm::new(path, channels, PYTORCH)?, gate: None, relu, drop: 0.0 })
    }

    /// Adds squeeze-and-excitation after the norm.
    pub fn with_gate(self, gate: Option<SqueezeExcite>) -> Self {
        Self { gate, ..self }
    }

    /// Adds stochastic depth (Huang et al. 2016): in training, sets the layer's output before the
    /// residual add to zero for each image with probability `drop`, and scales it by 1 / (1 - drop)
    /// otherwise, like torchvision's `StochasticDepth` in mode `row`.
    pub fn with_drop(self, drop: f64) -> Self {
        Self { drop, ..self }
    }

    /// The batch norm.
    pub fn normalization(&self) -> &BatchNorm {
        &self.norm
    }

    /// Computes `relu(shortcut + drop(gate(norm(x))))` for `x` and `shortcut` [N, C, H, W].
    pub fn forward(&self, x: &Tensor, shortcut: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let keep = if self.drop > 0.0 && mode == Mode::Train { Some(sample_keep(x, self.drop)?) } else { None };
        self.forward_with(x, shortcut, keep, mode)
    }

    /// [`forward`](Self::forward) with the factors of stochastic depth `keep`, [N], see
    /// [`sample_keeps`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        shortcut: Option<&Tensor>,
        keep: Option<Tensor>,
        mode: Mode,
    ) -> Result<Tensor> {
        if self.norm.mode(mode) == Mode::Train && cpu::is_supported(x) {
            return self.forward_on_cpu(x, shortcut, keep.as_ref());
        }
        let mut y = self.norm.normalize(x, mode)?;
        let keep = keep.map(|keep| keep.f_to_dtype(y.f_kind()?, false, false)?.f_view([-1, 1])).transpose()?;
        let scales = self.gate.as_ref().map(|gate| gate.scales(&channel_means(&y)?)).transpose()?;
        let factors = match (scales, keep) {
            // One factor per channel of each image: one launch over the images applies both.
            (Some(scales), Some(keep)) if x.device().is_cuda() => [Some(scales.f_mul(&keep)?), None],
            factors => factors.into(),
        };
        for factor in factors.into_iter().flatten() {
            y = y.f_mul(&factor.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        }
        if let Some(shortcut) = shortcut {
            y = y.f_add(shortcut)?;
        }
        if self.relu { Ok(y.f_relu()?) } else { Ok(y) }
    }

    /// Computes [`forward`](Self::forward) in training with the kernels, in two passes over memory.
    fn forward_on_cpu(&self, x: &Tensor, shortcut: Option<&Tensor>, keep: Option<&Tensor>) -> Result<Tensor> {
        let BatchNorm { constants, weight, bias, running_mean, .. } = &self.norm;
        let shard = Shard::of_norms();
        let from_moments = |means: &Tensor, squares: &Tensor| -> Result<[Tensor; 2]> {
            let [mean, square] = batch_means([means, squares], shard.as_ref())?;
            let variance = square.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
            self.norm.update_statistics(&mean, &variance)?;
            // norm(x) = factor (x - center) + offset
            let mut factor = variance.f_add_scalar(constants.epsilon)?.f_rsqrt()?.f_mul(weight)?;
            let mut offset = bias.f_sub(&factor.f_mul(&mean)?)?;
            if let Some(gate) = &self.gate {
                let means = factor.f_mul(means)?.f_add(&offset)?;
                let scales = gate.scales(&means.f_to_kind(Kind::Float)?)?;
                (factor, offset) = (factor.f_mul(&scales)?, offset.f_mul(&scales)?);
            }
            if let Some(keep) = keep {
                let keep = keep.f_unsqueeze(-1)?;
                (factor, offset) = (factor.f_mul(&keep)?, offset.f_mul(&keep)?);
            }
            Ok([factor.f_expand_as(means)?, offset.f_expand_as(means)?])
        };
        let gate = self.gate.iter().flat_map(SqueezeExcite::parameters);
        let parameters: Vec<&Tensor> = [weight, bias].into_iter().chain(gate).collect();
        // Close to the batch mean, so that a variance much smaller than the mean keeps its
        // precision.
        let center = running_mean;
        let transform = ImageTransform { center, from_moments: &from_moments, parameters: &parameters, shortcut };
        cpu::forward(x, &Transform::Image(transform), if self.relu { Relu::After } else { Relu::None })
    }
}

/// The means over the images of the batch, `[C]`, of two tensors [N, C]; in a shard over all parts.
fn batch_means(of_images: [&Tensor; 2], shard: Option<&Arc<Shard>>) -> Result<[Tensor; 2]> {
    let Some(shard) = shard else {
        let mean = |tensor: &Tensor| tensor.f_mean_dim([0i64].as_slice(), false, None);
        return Ok([mean(of_images[0])?, mean(of_images[1])?]);
    };
    let sum = |tensor: &Tensor| tensor.f_sum_dim_intlist([0i64].as_slice(), false, None);
    let sums = Tensor::f_stack(&[sum(of_images[0])?, sum(of_images[1])?], 0)?;
    let means = shard.sum(&sums)?.f_div_scalar(shard.total as f64)?;
    Ok([means.f_get(0)?, means.f_get(1)?])
}

/// Averages [N, C, H, W] over H and W to [N, C]. It is average pooling rather than `mean`, whose
/// gradient is not in channels-last memory format and makes the layers before it slow.
pub fn channel_means(x: &Tensor) -> Result<Tensor> {
    let [_, _, height, width] = x.size()[..] else {
        anyhow::bail!("channel means require a tensor [N, C, H, W], not {x:?}")
    };
    Ok(x.f_avg_pool2d([height, width], [1i64, 1], [0i64, 0], false, true, None)?.f_flatten(1, -1)?)
}

/// Samples the factors of stochastic depth of several layers, [layers, N] in the dtype of `x`, with
/// the probabilities `keep` of not dropping, float32 [layers, 1] on the device of `x`: three
/// launches on a GPU for any number of layers.
pub fn sample_keeps(keep: &Tensor, x: &Tensor) -> Result<Tensor> {
    let images = x.size().first().copied().unwrap_or(0);
    let sampled = |images| Ok(keep.f_expand([-1, images], false)?.f_bernoulli()?.f_div(keep)?);
    let keeps = shard::sample(images, 1, sampled)?;
    Ok(keeps.f_to_dtype(x.f_kind()?, false, false)?)
}

/// Samples the factors of stochastic depth, float32 `[N]`: 0 with probability `drop`, else 1 / (1 -
/// drop).
fn sample_keep(x: &Tensor, drop: f64) -> Result<Tensor> {
    let images = x.size().first().copied().unwrap_or(0);
    shard::sample(images, 0, |images| {
        let keep = Tensor::f_full([images], 1.0 - drop, (Kind::Float, x.device()))?;
        Ok(keep.f_bernoulli()?.f_div_scalar(1.0 - drop)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cpu::tests::without_kernels;
    use crate::testing::noise;
    use tch::{Device, nn};

    /// Output, gradients of x, shortcut and each parameter, and running statistics after a training
    /// pass.
    #[allow(clippy::disallowed_methods)]
    fn results(drop: f64) -> Vec<(String, Tensor)> {
        let store = nn::VarStore::new(Device::Cpu);
        let gate = SqueezeExcite::new(&(store.root() / "gate"), 3, 32, 8).unwrap();
        let layer = NormAct::new(&(store.root() / "norm"), 32, true).unwrap().with_gate(Some(gate)).with_drop(drop);
        for (salt, mut named) in (10..).zip(store.trainable_variables()) {
            tch::no_grad(|| named.copy_(&(&named + noise(&named.size(), salt) * 0.3)));
        }
        let leaf = |salt| (noise(&[12, 32, 6, 6], salt) * 2.0 + 0.3).set_requires_grad(true);
        let (x, shortcut) = (leaf(1), leaf(2));
        tch::manual_seed(5);
        let y = layer.forward(&x, Some(&shortcut), Mode::Train).unwrap();
        (&y * noise(&y.size(), 3)).sum(Kind::Float).backward();
        let mut all = vec![("y".into(), y.detach()), ("x".into(), x.grad()), ("shortcut".into(), shortcut.grad())];
        let mut named: Vec<_> = store.variables().into_iter().collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        all.extend(
            named.into_iter().map(|(name, t)| (name, if t.requires_grad() { t.grad() } else { t.shallow_clone() })),
        );
        all
    }

    #[test]
    fn kernels_match_libtorch() {
        for drop in [0.0, 0.5] {
            let (fast, reference) = (results(drop), without_kernels(|| results(drop)));
            assert_eq!(fast.len(), 3 + 8, "four of the norm, four of the gate");
            for ((name, fast), (_, reference)) in fast.iter().zip(&reference) {
                let scale = reference.norm().double_value(&[]);
                let error = (fast - reference).norm().double_value(&[]);
                assert!(scale > 0.0 && error < 1e-3 * scale, "{name}, drop {drop}: {error} of {scale}");
            }
        }
    }

    #[test]
    fn stochastic_depth_drops_images_and_scales_the_others() {
        let keep = sample_keep(&Tensor::zeros([10_000, 1, 1, 1], (Kind::Float, Device::Cpu)), 0.25).unwrap();
        let values = Vec::<f32>::try_from(keep).unwrap();
        assert!(values.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
        let dropped = values.iter().filter(|value| **value == 0.0).count();
        // Five standard deviations of a binomial of 10,000 and 1/4.
        assert!(dropped.abs_diff(2500) < 217, "{dropped} of 10,000");
        let keep = Tensor::from_slice(&[1.0f32, 0.75]).view([2, 1]);
        let keeps = sample_keeps(&keep, &Tensor::zeros([10_000, 1], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(keeps.select(0, 0).min().double_value(&[]), 1.0, "nothing is dropped with probability 0");
        let dropped = keeps.select(0, 1).eq(0.0).sum(Kind::Int64).int64_value(&[]);
        assert!(dropped.abs_diff(2500) < 217, "{dropped} of 10,000");
        assert!((keeps.select(0, 1).max().double_value(&[]) - 4.0 / 3.0).abs() < 1e-6);
    }
}
