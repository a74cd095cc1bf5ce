//! Layers with Keras' initialisers and batch-norm constants. Weights are float32; each layer computes in its input's format.

use anyhow::Result;
use tch::{Kind, Tensor, nn};

use super::Mode;
use super::cpu::{batch_norm, conv_pool};
use crate::config::Activation;
use crate::rng::{Rng, Stream};

/// Share of the batch statistics in an update of the running ones: Keras' momentum 0.99.
const NORM_UPDATE: f64 = 0.01;
/// Added to the variance: Keras' epsilon.
const NORM_EPSILON: f64 = 1e-3;

/// Values from U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out)), fixed by seed and name (Glorot and Bengio 2010;
/// Keras' `GlorotUniform`).
fn glorot_uniform(path: &nn::Path, seed: u64, dims: &[i64], fan_in: i64, fan_out: i64) -> Result<Tensor> {
    let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
    let mut keys = vec![Stream::Init as u64, seed];
    keys.extend(path.path("weight").bytes().map(u64::from));
    let mut rng = Rng::new(&keys);
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
    bias: Tensor,
    padding: i64,
}

impl Convolution {
    /// Weight [output, input, kernel, kernel] Glorot uniform, bias zero.
    pub fn new(path: &nn::Path, seed: u64, input: i64, output: i64, kernel: i64, padding: i64) -> Result<Self> {
        let area = kernel * kernel;
        Ok(Self {
            weight: glorot_uniform(path, seed, &[output, input, kernel, kernel], input * area, output * area)?,
            bias: constant(path, "bias", 0.0, output, true)?,
            padding,
        })
    }

    /// [N, input, H, W] -> [N, output, H', W']
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (like(&self.weight, x)?, like(&self.bias, x)?);
        Ok(x.f_conv2d(&weight, Some(bias), 1, self.padding, 1, 1)?)
    }

    /// [N, input, H, W] -> [N, output, H' / 2, W' / 2]: the same, and 2x2 max-pooling.
    pub fn forward_max_pool(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match conv_pool::shape(x, &self.weight, self.padding) {
            Some(shape) if mode != Mode::Trace => conv_pool::forward(shape, x, &self.weight, &self.bias),
            _ => Ok(self.forward(x)?.f_max_pool2d(2, 2, 0, 1, false)?),
        }
    }
}

/// Fully connected layer.
#[derive(Debug)]
pub struct Dense {
    weight: Tensor,
    bias: Tensor,
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

/// Batch normalisation over N, H, W (Ioffe and Szegedy 2015), with Keras' constants.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    /// Scale 1, offset 0, running mean 0, running variance 1.
    pub fn new(path: &nn::Path, width: i64) -> Result<Self> {
        Ok(Self {
            weight: constant(path, "weight", 1.0, width, true)?,
            bias: constant(path, "bias", 0.0, width, true)?,
            running_mean: constant(path, "running_mean", 0.0, width, false)?,
            running_var: constant(path, "running_var", 1.0, width, false)?,
        })
    }

    /// [N, width, H, W] -> the same, of `activation(x)` where one is given; in training the running statistics move towards
    /// the batch's.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>, mode: Mode) -> Result<Tensor> {
        if mode == Mode::Train && matches!(activation, None | Some(Activation::Relu)) && batch_norm::fits(x) {
            let norm = batch_norm::Norm {
                weight: &self.weight,
                bias: &self.bias,
                running_mean: &self.running_mean,
                running_var: &self.running_var,
                update: NORM_UPDATE,
                epsilon: NORM_EPSILON,
            };
            return batch_norm::forward(&norm, x, activation.is_some());
        }
        match activation {
            Some(activation) => self.normalise(&activation.forward(x)?, mode),
            None => self.normalise(x, mode),
        }
    }

    /// With libtorch's own operations.
    fn normalise(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let training = mode == Mode::Train;
        // In training libtorch gets a copy of the running variance to change: what it saves for the backward pass must
        // not be touched again, and its own change is not yet the right one.
        let variance = if training { self.running_var.f_mul_scalar(1.0)? } else { self.running_var.shallow_clone() };
        let statistics = (Some(&self.running_mean), Some(&variance));
        let affine = (Some(&self.weight), Some(&self.bias));
        let y =
            x.f_batch_norm(affine.0, affine.1, statistics.0, statistics.1, training, NORM_UPDATE, NORM_EPSILON, true)?;
        if training {
            // libtorch moves towards the unbiased variance, Keras towards the biased one, which is (n - 1) / n of it.
            let n = (x.numel() / self.weight.numel().max(1)).max(1) as f64;
            let mut own = self.running_var.shallow_clone();
            let _ = tch::no_grad(|| match n {
                // The variance of a single value is 0; libtorch's unbiased one is 0 / 0.
                1.0 => own.f_mul_scalar_(1.0 - NORM_UPDATE),
                _ => own.f_mul_scalar_((1.0 - NORM_UPDATE) / n)?.f_add_(&variance.f_mul_scalar((n - 1.0) / n)?),
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
