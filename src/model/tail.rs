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
        cpu::forward(x, running_mean, &map, &parameters, shortcut, self.relu)
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
