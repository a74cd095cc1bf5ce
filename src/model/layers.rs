//! Layers. Weights are float32; each layer computes in its input's format.

use anyhow::Result;
use tch::{Kind, Tensor, nn};

use super::Mode;
use super::cnn::Activation;
use super::cpu::{batch_norm, conv_pool};
use crate::util::rng::{Rng, Stream};

/// What batch norms differ in between Keras and PyTorch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConstants {
    /// Share of the batch statistics in an update of the running ones.
    pub update: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Keras' momentum 0.99 and epsilon.
pub const KERAS: NormConstants = NormConstants { update: 0.01, epsilon: 1e-3 };
/// PyTorch's momentum 0.1 and epsilon.
pub const PYTORCH: NormConstants = NormConstants { update: 0.1, epsilon: 1e-5 };

/// The draws of a weight, fixed by seed and name.
fn rng_of(path: &nn::Path, seed: u64) -> Rng {
    let mut keys = vec![Stream::Init as u64, seed];
    keys.extend(path.path("weight").bytes().map(u64::from));
    Rng::new(&keys)
}

/// Normal values with variance 2 / `fan_out`, fixed by seed and name (He et al. 2015; `torch.nn.init.kaiming_normal_` with
/// `mode="fan_out"`, as torchvision's networks).
fn he_normal(path: &nn::Path, seed: u64, dims: &[i64], fan_out: i64) -> Result<Tensor> {
    let deviation = (2.0 / fan_out as f64).sqrt();
    let mut rng = rng_of(path, seed);
    let values: Vec<f32> = (0..dims.iter().product::<i64>()).map(|_| (deviation * rng.normal()) as f32).collect();
    Ok(path.add("weight", Tensor::f_from_slice(&values)?.f_view(dims)?, true))
}

/// Values from U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out)), fixed by seed and name (Glorot and Bengio 2010;
/// Keras' `GlorotUniform`).
fn glorot_uniform(path: &nn::Path, seed: u64, dims: &[i64], fan_in: i64, fan_out: i64) -> Result<Tensor> {
    let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
    let mut rng = rng_of(path, seed);
    let count = dims.iter().product::<i64>();
    let values: Vec<f32> = (0..count).map(|_| rng.between(-limit, limit) as f32).collect();
    Ok(path.add("weight", Tensor::f_from_slice(&values)?.f_view(dims)?, true))
}

fn constant(path: &nn::Path, name: &str, value: f64, width: i64, trainable: bool) -> Result<Tensor> {
    Ok(path.add(name, Tensor::f_full([width], value, (Kind::Float, path.device()))?, trainable))
}

/// `weight` in the number format of `input`; recorded by autograd, so its gradient comes back as float32.
fn like(weight: &Tensor, input: &Tensor) -> Result<Tensor> {
    let kind = input.f_kind()?;
    Ok(if weight.f_kind()? == kind { weight.shallow_clone() } else { weight.f_to_dtype(kind, false, false)? })
}

/// 2-d convolution, stride 1.
#[derive(Debug)]
pub struct Convolution {
    weight: Tensor,
    bias: Option<Tensor>,
    padding: i64,
}

impl Convolution {
    /// As Keras': weight [output, input, kernel, kernel] Glorot uniform, bias zero.
    pub fn new(path: &nn::Path, seed: u64, input: i64, output: i64, kernel: i64, padding: i64) -> Result<Self> {
        let area = kernel * kernel;
        Ok(Self {
            weight: glorot_uniform(path, seed, &[output, input, kernel, kernel], input * area, output * area)?,
            bias: Some(constant(path, "bias", 0.0, output, true)?),
            padding,
        })
    }

    /// As torchvision's before a norm: weight He normal, no bias, zeros around so that the size stays.
    pub fn before_norm(path: &nn::Path, seed: u64, input: i64, output: i64, kernel: i64) -> Result<Self> {
        let weight = he_normal(path, seed, &[output, input, kernel, kernel], output * kernel * kernel)?;
        Ok(Self { weight, bias: None, padding: kernel / 2 })
    }

    /// [N, input, H, W] -> [N, output, H', W']
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = like(&self.weight, x)?;
        let bias = self.bias.as_ref().map(|bias| like(bias, x)).transpose()?;
        Ok(x.f_conv2d(&weight, bias, 1, self.padding, 1, 1)?)
    }

    /// [N, input, H, W] -> [N, output, H' / 2, W' / 2]: the same, and 2x2 max-pooling.
    pub fn forward_max_pool(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match conv_pool::shape(x, &self.weight, self.padding) {
            Some(shape) if mode != Mode::Trace => {
                let filters = self.weight.size().first().copied().unwrap_or(0);
                let none = || Tensor::f_zeros([filters], (Kind::Float, x.device()));
                let bias = self.bias.as_ref().map_or_else(none, |bias| Ok(bias.shallow_clone()))?;
                conv_pool::forward(shape, x, &self.weight, &bias)
            }
            _ => Ok(self.forward(x)?.f_max_pool2d(2, 2, 0, 1, false)?),
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
    /// Weight [output, input] Glorot uniform, bias zero.
    pub fn new(path: &nn::Path, seed: u64, input: i64, output: i64) -> Result<Self> {
        Ok(Self {
            weight: glorot_uniform(path, seed, &[output, input], input, output)?,
            bias: constant(path, "bias", 0.0, output, true)?,
        })
    }

    /// [N, input] -> [N, output]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&like(&self.weight, x)?, Some(like(&self.bias, x)?))?)
    }
}

/// Batch normalization over N, H, W (Ioffe and Szegedy 2015). The running variance is the biased one, as Keras'.
#[derive(Debug)]
pub struct BatchNorm {
    pub constants: NormConstants,
    pub weight: Tensor,
    pub bias: Tensor,
    pub running_mean: Tensor,
    pub running_var: Tensor,
}

impl BatchNorm {
    /// Scale 1, offset 0, running mean 0, running variance 1.
    pub fn new(path: &nn::Path, width: i64, constants: NormConstants) -> Result<Self> {
        Ok(Self {
            constants,
            weight: constant(path, "weight", 1.0, width, true)?,
            bias: constant(path, "bias", 0.0, width, true)?,
            running_mean: constant(path, "running_mean", 0.0, width, false)?,
            running_var: constant(path, "running_var", 1.0, width, false)?,
        })
    }

    /// [N, width, H, W] -> the same, of `activation(x)` where one is given; in training the running statistics move towards
    /// the batch's.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>, mode: Mode) -> Result<Tensor> {
        if mode == Mode::Train && matches!(activation, None | Some(Activation::Relu)) && batch_norm::is_supported(x) {
            let norm = batch_norm::Norm {
                weight: &self.weight,
                bias: &self.bias,
                running_mean: &self.running_mean,
                running_var: &self.running_var,
                update: self.constants.update,
                epsilon: self.constants.epsilon,
            };
            return batch_norm::forward(&norm, x, activation.is_some());
        }
        match activation {
            Some(activation) => self.normalize(&activation.forward(x)?, mode),
            None => self.normalize(x, mode),
        }
    }

    /// With libtorch's own operations.
    pub fn normalize(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let training = mode == Mode::Train;
        let NormConstants { update, epsilon } = self.constants;
        // In training libtorch gets a copy of the running variance to change: what it saves for the backward pass must
        // not be touched again, and its own change is not yet the right one.
        let variance = if training { self.running_var.f_mul_scalar(1.0)? } else { self.running_var.shallow_clone() };
        let statistics = (Some(&self.running_mean), Some(&variance));
        let affine = (Some(&self.weight), Some(&self.bias));
        let y = x.f_batch_norm(affine.0, affine.1, statistics.0, statistics.1, training, update, epsilon, true)?;
        if training {
            // libtorch moves towards the unbiased variance, Keras towards the biased one, which is (n - 1) / n of it.
            let n = (x.numel() / self.weight.numel().max(1)).max(1) as f64;
            let mut own = self.running_var.shallow_clone();
            let _ = tch::no_grad(|| match n {
                // The variance of a single value is 0; libtorch's unbiased one is 0 / 0.
                1.0 => own.f_mul_scalar_(1.0 - update),
                _ => own.f_mul_scalar_((1.0 - update) / n)?.f_add_(&variance.f_mul_scalar((n - 1.0) / n)?),
            })?;
        }
        Ok(y)
    }
}

impl Activation {
    /// Applies it, element by element.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.f_relu()?,
            Self::LeakyRelu => x.f_leaky_relu()?,
            Self::Elu => x.f_elu()?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Silu => x.f_silu()?,
        })
    }

    /// Whether a greater input never gives a smaller output: then it commutes with max-pooling.
    pub fn is_monotone(self) -> bool {
        matches!(self, Self::Relu | Self::LeakyRelu | Self::Elu)
    }
}
