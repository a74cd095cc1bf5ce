//! Layers. Weights are float32; each layer computes in the dtype of its input.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::Mode;
use super::cpu::conv_pool;
use super::cpu::norm_act::{self, Relu, Transform};
use super::cpu::winograd;
use super::shard::{self, Shard};
use crate::util::rng::{Rng, Stream};

/// Constants of batch norm, in which Keras and PyTorch differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConstants {
    /// Weight of the batch statistics in an update of the running ones: `momentum` in
    /// PyTorch, `1 - momentum` in Keras.
    pub update: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Keras' defaults: momentum 0.99, epsilon 1e-3.
pub const KERAS: NormConstants = NormConstants { update: 0.01, epsilon: 1e-3 };
/// PyTorch's defaults: momentum 0.1, epsilon 1e-5.
pub const PYTORCH: NormConstants = NormConstants { update: 0.1, epsilon: 1e-5 };

/// Random numbers of the tensor `weight` under `path`, keyed by seed and name.
fn weight_rng(path: &nn::Path, seed: u64) -> Rng {
    let mut keys = vec![Stream::Init as u64, seed];
    keys.extend(path.path("weight").bytes().map(u64::from));
    Rng::new(&keys)
}

/// Adds a weight sampled from N(0, 2 / fan_out) (He et al. 2015; `torch.nn.init.kaiming_normal_`
/// with `mode="fan_out"`, as in torchvision's networks).
fn he_normal(path: &nn::Path, seed: u64, dims: &[i64], fan_out: i64) -> Result<Tensor> {
    let deviation = (2.0 / fan_out as f64).sqrt();
    let mut rng = weight_rng(path, seed);
    let values: Vec<f32> = (0..dims.iter().product::<i64>()).map(|_| (deviation * rng.normal()) as f32).collect();
    Ok(path.add("weight", Tensor::f_from_slice(&values)?.f_view(dims)?, true))
}

/// Adds a weight sampled from U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out)) (Glorot and
/// Bengio 2010; Keras' `GlorotUniform`).
fn glorot_uniform(path: &nn::Path, seed: u64, dims: &[i64], fan_in: i64, fan_out: i64) -> Result<Tensor> {
    let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
    let mut rng = weight_rng(path, seed);
    let count = dims.iter().product::<i64>();
    let values: Vec<f32> = (0..count).map(|_| rng.between(-limit, limit) as f32).collect();
    Ok(path.add("weight", Tensor::f_from_slice(&values)?.f_view(dims)?, true))
}

fn constant(path: &nn::Path, name: &str, value: f64, width: i64, trainable: bool) -> Result<Tensor> {
    Ok(path.add(name, Tensor::f_full([width], value, (Kind::Float, path.device()))?, trainable))
}

/// Casts `weight` to the dtype of `input`. Autograd records it, so the gradient is float32.
pub fn cast_like(weight: &Tensor, input: &Tensor) -> Result<Tensor> {
    let kind = input.f_kind()?;
    Ok(if weight.f_kind()? == kind { weight.shallow_clone() } else { weight.f_to_dtype(kind, false, false)? })
}

/// 2D convolution.
#[derive(Debug)]
pub struct Convolution {
    weight: Tensor,
    bias: Option<Tensor>,
    padding: i64,
    stride: i64,
}

impl Convolution {
    /// Creates Keras' `Conv2D`: weight [output, input, kernel, kernel] Glorot uniform, bias zero.
    pub fn new(path: &nn::Path, seed: u64, input: i64, output: i64, kernel: i64, padding: i64) -> Result<Self> {
        let area = kernel * kernel;
        Ok(Self {
            weight: glorot_uniform(path, seed, &[output, input, kernel, kernel], input * area, output * area)?,
            bias: Some(constant(path, "bias", 0.0, output, true)?),
            padding,
            stride: 1,
        })
    }

    /// Creates torchvision's convolution before a norm: weight He normal, no bias, padding of half
    /// the kernel, stride 1.
    pub fn without_bias(path: &nn::Path, seed: u64, input: i64, output: i64, kernel: i64) -> Result<Self> {
        let weight = he_normal(path, seed, &[output, input, kernel, kernel], output * kernel * kernel)?;
        Ok(Self { weight, bias: None, padding: kernel / 2, stride: 1 })
    }

    /// Sets the stride.
    pub fn with_stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    /// [N, input, H, W] -> [N, output, H', W']
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        // The custom kernels have stride 1.
        if mode != Mode::Trace
            && self.stride == 1
            && let Some(shape) = winograd::shape(x, &self.weight, self.padding)
        {
            return winograd::forward(&shape, x, &self.weight, self.bias.as_ref());
        }
        let weight = cast_like(&self.weight, x)?;
        let bias = self.bias.as_ref().map(|bias| cast_like(bias, x)).transpose()?;
        Ok(x.f_conv2d(&weight, bias, self.stride, self.padding, 1, 1)?)
    }

    /// [N, input, H, W] -> [N, output, H' / 2, W' / 2]: [`forward`](Self::forward), then 2x2 max
    /// pooling.
    pub fn forward_max_pool(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match conv_pool::shape(x, &self.weight, self.padding) {
            Some(shape) if mode != Mode::Trace && self.stride == 1 => {
                let filters = self.weight.size().first().copied().unwrap_or(0);
                let zeros = || Tensor::f_zeros([filters], (Kind::Float, x.device()));
                let bias = self.bias.as_ref().map_or_else(zeros, |bias| Ok(bias.shallow_clone()))?;
                conv_pool::forward(shape, x, &self.weight, &bias)
            }
            _ => Ok(self.forward(x, mode)?.f_max_pool2d(2, 2, 0, 1, false)?),
        }
    }
}

/// Fully connected layer.
#[derive(Debug)]
pub struct Dense {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Dense {
    /// Creates Keras' `Dense`: weight [output, input] Glorot uniform, bias zero.
    pub fn new(path: &nn::Path, seed: u64, input: i64, output: i64) -> Result<Self> {
        Ok(Self {
            weight: glorot_uniform(path, seed, &[output, input], input, output)?,
            bias: constant(path, "bias", 0.0, output, true)?,
        })
    }

    /// [N, input] -> [N, output]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&cast_like(&self.weight, x)?, Some(cast_like(&self.bias, x)?))?)
    }
}

/// Batch normalization over N, H, W (Ioffe and Szegedy 2015). The running variance is the biased
/// one, as in Keras.
#[derive(Debug)]
pub struct BatchNorm {
    pub constants: NormConstants,
    pub weight: Tensor,
    pub bias: Tensor,
    pub running_mean: Tensor,
    pub running_var: Tensor,
    /// Name of `running_var`.
    pub variance_name: String,
    /// Whether the running variance is corrected after the backward pass, for all norms at once.
    defers: Cell<bool>,
    /// Values per channel of the last batch in training.
    count: Cell<i64>,
    /// Whether training too normalizes with the running statistics, and keeps them.
    frozen: Cell<bool>,
}

impl BatchNorm {
    /// Creates a batch norm with weight 1, bias 0, running mean 0 and running variance 1.
    pub fn new(path: &nn::Path, width: i64, constants: NormConstants) -> Result<Self> {
        Ok(Self {
            constants,
            weight: constant(path, "weight", 1.0, width, true)?,
            bias: constant(path, "bias", 0.0, width, true)?,
            running_mean: constant(path, "running_mean", 0.0, width, false)?,
            running_var: constant(path, "running_var", 1.0, width, false)?,
            variance_name: path.path("running_var"),
            defers: Cell::new(false),
            count: Cell::new(0),
            frozen: Cell::new(false),
        })
    }

    /// Makes training normalize with the running statistics, as inference, and keep them (PyTorch:
    /// `norm.eval()` while the network trains).
    pub fn freeze(&self) {
        self.frozen.set(true);
    }

    /// The mode of the norm in a forward pass in `mode`.
    pub fn mode(&self, mode: Mode) -> Mode {
        if mode == Mode::Train && self.frozen.get() { Mode::Inference } else { mode }
    }

    /// Leaves the correction of the running variance to
    /// [`StatisticsCorrection`](super::statistics_correction::StatisticsCorrection).
    pub fn defer_correction(&self) {
        self.defers.set(true);
    }

    /// Values per channel of the last batch in training.
    pub fn count(&self) -> i64 {
        self.count.get()
    }

    /// Normalizes `activation(x)`, or `x` without one; [N, width, H, W] to the same shape.
    /// `Mode::Train` updates the running statistics.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>, mode: Mode) -> Result<Tensor> {
        let mode = self.mode(mode);
        if mode == Mode::Train && matches!(activation, None | Some(Activation::Relu)) && norm_act::is_supported(x) {
            let norm = norm_act::BatchNorm {
                weight: &self.weight,
                bias: &self.bias,
                running_mean: &self.running_mean,
                running_var: &self.running_var,
                update: self.constants.update,
                epsilon: self.constants.epsilon,
            };
            let relu = if activation.is_some() { Relu::Before } else { Relu::None };
            return norm_act::forward(x, &Transform::Batch(norm), relu);
        }
        match activation {
            Some(activation) => self.normalize(&activation.forward(x)?, mode),
            None => self.normalize(x, mode),
        }
    }

    /// Normalizes `x` with libtorch's operations.
    pub fn normalize(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let training = self.mode(mode) == Mode::Train;
        if let Some(shard) = Shard::of_norms().filter(|_| training) {
            return self.normalize_shard(x, &shard);
        }
        let NormConstants { update, epsilon } = self.constants;
        let n = x.numel() / self.weight.numel().max(1);
        if training {
            self.count.set(n as i64);
        }
        let corrects = training && !(self.defers.get() && n > 1);
        // libtorch updates a copy of the running variance that the correction below needs: it saves
        // that tensor for the backward pass, so the correction must not change it.
        let variance = if corrects { self.running_var.f_detach_copy()? } else { self.running_var.shallow_clone() };
        let statistics = (Some(&self.running_mean), Some(&variance));
        let affine = (Some(&self.weight), Some(&self.bias));
        let y = x.f_batch_norm(affine.0, affine.1, statistics.0, statistics.1, training, update, epsilon, true)?;
        if corrects {
            // libtorch updates with the unbiased variance, Keras with the biased one: (n - 1) / n
            // of it.
            let n = n.max(1) as f64;
            let mut running_var = self.running_var.shallow_clone();
            let _ = tch::no_grad(|| match n {
                // The biased variance of one value is 0, the unbiased one 0 / 0.
                1.0 => running_var.f_mul_scalar_(1.0 - update),
                _ => running_var.f_mul_scalar_((1.0 - update) / n)?.f_add_(&variance.f_mul_scalar((n - 1.0) / n)?),
            })?;
        }
        Ok(y)
    }
}

impl BatchNorm {
    /// Normalizes `x`, a part of a batch, with the statistics of the whole batch, on any device
    /// (PyTorch: `torch.nn.SyncBatchNorm`). The sums are about the running mean, so that a variance
    /// much smaller than the mean keeps its precision.
    fn normalize_shard(&self, x: &Tensor, shard: &Arc<Shard>) -> Result<Tensor> {
        let epsilon = self.constants.epsilon;
        // The running variance needs no correction.
        self.count.set(0);
        let width = self.weight.size1()?;
        let mut shape = vec![1i64; x.dim()];
        if let Some(channels) = shape.get_mut(1) {
            *channels = width;
        }
        let others: Vec<i64> = (0..x.dim() as i64).filter(|dim| *dim != 1).collect();
        let center = self.running_mean.f_detach_copy()?;
        let centered = x.f_to_dtype(Kind::Float, false, false)?.f_sub(&center.f_view(&shape[..])?)?;
        let sum = |values: &Tensor| values.f_sum_dim_intlist(others.as_slice(), false, Kind::Double);
        let sums = Tensor::f_stack(&[sum(&centered)?, sum(&centered.f_square()?)?], 0)?;
        let count = shard.count_all(x.numel() / width.max(1).unsigned_abs() as usize);
        let moments = shard.sum(&sums)?.f_div_scalar(count)?;
        let (mean, square) = (moments.f_get(0)?, moments.f_get(1)?);
        let variance = square.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
        self.update_statistics(&mean, &variance)?;
        let factor = variance.f_add_scalar(epsilon)?.f_rsqrt()?.f_mul(&self.weight)?;
        let offset = self.bias.f_sub(&factor.f_mul(&mean)?)?;
        let part = |values: Tensor| values.f_to_dtype(Kind::Float, false, false)?.f_view(&shape[..]);
        let y = centered.f_mul(&part(factor)?)?.f_add(&part(offset)?)?;
        Ok(y.f_to_dtype(x.f_kind()?, false, false)?)
    }

    /// Updates the running statistics with the mean about the running one, and the biased variance, of
    /// a batch, float64 `[C]`.
    pub fn update_statistics(&self, mean: &Tensor, variance: &Tensor) -> Result<()> {
        let update = self.constants.update;
        tch::no_grad(|| -> Result<()> {
            let _ = self.running_var.shallow_clone().f_lerp_(&variance.f_to_kind(Kind::Float)?, update)?;
            let change = mean.f_to_kind(Kind::Float)?.f_mul_scalar(update)?;
            let _ = self.running_mean.shallow_clone().f_add_(&change)?;
            Ok(())
        })
    }
}

/// Dropout with `probability` in training (`torch.nn.functional.dropout`); nothing in inference or
/// at 0.
pub fn dropout(x: Tensor, probability: f64, mode: Mode) -> Result<Tensor> {
    if mode != Mode::Train || probability == 0.0 {
        return Ok(x);
    }
    if Shard::current().is_none() {
        return Ok(x.f_dropout(probability, true)?);
    }
    // As libtorch's on the CPU.
    let mut size = x.size();
    let images = size.first().copied().unwrap_or(0);
    let options = (x.f_kind()?, x.device());
    let mask = shard::sample(images, 0, |images| {
        if let Some(first) = size.first_mut() {
            *first = images;
        }
        let keep = 1.0 - probability;
        Ok(Tensor::f_empty(&size[..], options)?.f_bernoulli_float_(keep)?.f_div_scalar_(keep)?)
    })?;
    Ok(x.f_mul(&mask)?)
}

/// Activation functions: PyTorch's of the same name, with its default parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// x if x > 0, else 0.01 x
    LeakyRelu,
    /// x if x > 0, else exp(x) - 1
    Elu,
    /// x * Phi(x), Phi the normal CDF
    Gelu,
    /// x * sigmoid(x)
    Silu,
}

impl Activation {
    /// Applies the activation elementwise.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.f_relu()?,
            Self::LeakyRelu => x.f_leaky_relu()?,
            Self::Elu => x.f_elu()?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Silu => x.f_silu()?,
        })
    }

    /// Whether the activation is non-decreasing, so that it commutes with max pooling.
    pub fn is_monotone(self) -> bool {
        matches!(self, Self::Relu | Self::LeakyRelu | Self::Elu)
    }
}
