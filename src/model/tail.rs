//! What follows a convolution in the networks with norms right behind it: batch norm, then whatever else touches every value.
//!
//! All of it in one place, since each part by itself is a pass over memory.

use anyhow::Result;
use tch::{Kind, Tensor, nn};

use super::Mode;
use super::cpu::tail as cpu;
use super::layers::{BatchNorm, Dense, PYTORCH};

/// Squeeze-and-excitation (Hu et al. 2018): each channel is scaled by what two dense layers make of all channels' means.
#[derive(Debug)]
pub struct SqueezeExcite {
    squeeze: Dense,
    excite: Dense,
}

impl SqueezeExcite {
    /// Dense layers `squeeze` and `excite` for `channels`, with `width` in between.
    pub fn new(path: &nn::Path, seed: u64, channels: i64, width: i64) -> Result<Self> {
        Ok(Self {
            squeeze: Dense::new(&path.sub("squeeze"), seed, channels, width)?,
            excite: Dense::new(&path.sub("excite"), seed, width, channels)?,
        })
    }

    /// All that has gradients.
    fn parameters(&self) -> [&Tensor; 4] {
        let (squeeze, excite) = (&self.squeeze, &self.excite);
        [&squeeze.weight, &squeeze.bias, &excite.weight, &excite.bias]
    }

    /// Scales in 0..1, [N, C], from the channels' means [N, C].
    fn scales(&self, means: &Tensor) -> Result<Tensor> {
        Ok(self.excite.forward(&self.squeeze.forward(means)?.f_relu()?)?.f_sigmoid()?)
    }
}

/// A batch norm and what comes after it.
#[derive(Debug)]
pub struct NormTail {
    norm: BatchNorm,
    gate: Option<SqueezeExcite>,
    relu: bool,
    /// Probability that a face goes without all this in training: stochastic depth.
    drop: f64,
}

impl NormTail {
    /// Batch norm with PyTorch's constants, and ReLU where wanted; the norm's tensors are right under `path`.
    pub fn new(path: &nn::Path, channels: i64, relu: bool) -> Result<Self> {
        Ok(Self { norm: BatchNorm::new(path, channels, PYTORCH)?, gate: None, relu, drop: 0.0 })
    }

    /// With squeeze-and-excitation behind the norm.
    pub fn with_gate(self, gate: Option<SqueezeExcite>) -> Self {
        Self { gate, ..self }
    }

    /// With stochastic depth: what is added to the shortcut is left out with this probability (Huang et al. 2016; scaled up
    /// in training where it stays, as torchvision's `StochasticDepth` in mode `row`).
    pub fn with_drop(self, drop: f64) -> Self {
        Self { drop, ..self }
    }

    /// `relu(shortcut + drop(gate(norm(x))))` for `x` and `shortcut` [N, C, H, W].
    pub fn forward(&self, x: &Tensor, shortcut: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        let kept = if self.drop > 0.0 && mode == Mode::Train { Some(kept(x, self.drop)?) } else { None };
        if mode == Mode::Train && cpu::fits(x) {
            return self.forward_on_cpu(x, shortcut, kept.as_ref());
        }
        let mut y = self.norm.normalise(x, mode)?;
        if let Some(gate) = &self.gate {
            let scales = gate.scales(&channel_means(&y)?)?;
            y = y.f_mul(&scales.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        }
        if let Some(kept) = kept {
            y = y.f_mul(&kept.f_to_dtype(y.f_kind()?, false, false)?.f_view([-1, 1, 1, 1])?)?;
        }
        if let Some(shortcut) = shortcut {
            y = y.f_add(shortcut)?;
        }
        if self.relu { Ok(y.f_relu()?) } else { Ok(y) }
    }

    /// The same in training, in two passes over memory.
    fn forward_on_cpu(&self, x: &Tensor, shortcut: Option<&Tensor>, kept: Option<&Tensor>) -> Result<Tensor> {
        let BatchNorm { constants, weight, bias, running_mean, running_var } = &self.norm;
        let map = |means: &Tensor, squares: &Tensor| -> Result<[Tensor; 2]> {
            let over_images = |tensor: &Tensor| tensor.f_mean_dim([0i64].as_slice(), false, None);
            let mean = over_images(means)?;
            let variance = over_images(squares)?.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
            tch::no_grad(|| -> Result<()> {
                let _ = running_var.shallow_clone().f_lerp_(&variance.f_to_kind(Kind::Float)?, constants.update)?;
                let change = mean.f_to_kind(Kind::Float)?.f_mul_scalar(constants.update)?;
                let _ = running_mean.shallow_clone().f_add_(&change)?;
                Ok(())
            })?;
            // norm(x) = factor (x - centre) + offset
            let mut factor = variance.f_add_scalar(constants.epsilon)?.f_rsqrt()?.f_mul(weight)?;
            let mut offset = bias.f_sub(&factor.f_mul(&mean)?)?;
            if let Some(gate) = &self.gate {
                let means = factor.f_mul(means)?.f_add(&offset)?;
                let scales = gate.scales(&means.f_to_kind(Kind::Float)?)?;
                (factor, offset) = (factor.f_mul(&scales)?, offset.f_mul(&scales)?);
            }
            if let Some(kept) = kept {
                let kept = kept.f_unsqueeze(-1)?;
                (factor, offset) = (factor.f_mul(&kept)?, offset.f_mul(&kept)?);
            }
            Ok([factor.f_expand_as(means)?, offset.f_expand_as(means)?])
        };
        let gate = self.gate.iter().flat_map(SqueezeExcite::parameters);
        let parameters: Vec<&Tensor> = [weight, bias].into_iter().chain(gate).collect();
        // Near the batch's mean, so that a variance that is small beside it keeps its digits.
        let centre = running_mean;
        cpu::forward(x, &cpu::Tail { centre, map: &map, parameters: &parameters, shortcut, relu: self.relu })
    }
}

/// [N, C, H, W] -> [N, C]. As pooling, not as `mean`: that one's gradient loses the channels-last memory format, and everything before
/// it is slow then.
pub fn channel_means(x: &Tensor) -> Result<Tensor> {
    let [_, _, height, width] = x.size()[..] else { anyhow::bail!("means of channels want [N, C, H, W], not {x:?}") };
    Ok(x.f_avg_pool2d([height, width], [1i64, 1], [0i64, 0], false, true, None)?.f_flatten(1, -1)?)
}

/// float32 `[N]`: 0 with probability `drop`, else 1 / (1 - drop).
fn kept(x: &Tensor, drop: f64) -> Result<Tensor> {
    let images = x.size().first().copied().unwrap_or(0);
    let keep = Tensor::f_full([images], 1.0 - drop, (Kind::Float, x.device()))?;
    Ok(keep.f_bernoulli()?.f_div_scalar(1.0 - drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cpu::tests::plainly;
    use crate::testing::noise;
    use tch::{Device, nn};

    /// Result, gradients by x, shortcut and each parameter, and statistics after it, in a training pass.
    #[allow(clippy::disallowed_methods)]
    fn results(drop: f64) -> Vec<(String, Tensor)> {
        let store = nn::VarStore::new(Device::Cpu);
        let gate = SqueezeExcite::new(&(store.root() / "gate"), 3, 32, 8).unwrap();
        let tail = NormTail::new(&(store.root() / "norm"), 32, true).unwrap().with_gate(Some(gate)).with_drop(drop);
        for (salt, mut named) in (10..).zip(store.trainable_variables()) {
            tch::no_grad(|| named.copy_(&(&named + noise(&named.size(), salt) * 0.3)));
        }
        let leaf = |salt| (noise(&[12, 32, 6, 6], salt) * 2.0 + 0.3).set_requires_grad(true);
        let (x, shortcut) = (leaf(1), leaf(2));
        tch::manual_seed(5);
        let y = tail.forward(&x, Some(&shortcut), Mode::Train).unwrap();
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
    fn in_two_passes_it_is_what_it_is_in_many() {
        for drop in [0.0, 0.5] {
            let (fast, plain) = (results(drop), plainly(|| results(drop)));
            assert_eq!(fast.len(), 3 + 8, "four of the norm, four of the gate");
            for ((name, fast), (_, plain)) in fast.iter().zip(&plain) {
                let scale = plain.norm().double_value(&[]);
                let error = (fast - plain).norm().double_value(&[]);
                assert!(scale > 0.0 && error < 1e-3 * scale, "{name}, drop {drop}: {error} of {scale}");
            }
        }
    }

    #[test]
    fn what_stays_is_scaled_up() {
        let kept = kept(&Tensor::zeros([10_000, 1, 1, 1], (Kind::Float, Device::Cpu)), 0.25).unwrap();
        let values = Vec::<f32>::try_from(kept).unwrap();
        assert!(values.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
        let dropped = values.iter().filter(|value| **value == 0.0).count();
        // Five standard deviations of a binomial of 10,000 and 1/4.
        assert!(dropped.abs_diff(2500) < 217, "{dropped} of 10,000");
    }
}
