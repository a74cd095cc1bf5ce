//! Affine transform of batch norm (Ioffe and Szegedy 2015), in closed form.

use std::sync::Arc;

use anyhow::Result;
use kernels::Element;
use kernels::norm_act::{Coefficients, OutputGradient};
use tch::Tensor;
use torch_ext::tensor_slice;

use super::Affine;
use super::passes::Passes;
use crate::model::shard::{Shard, sum_all};

/// Parameters and running statistics of a batch norm, each float32 [C], and its constants.
pub struct BatchNorm<'a> {
    /// Scale.
    pub weight: &'a Tensor,
    /// Offset.
    pub bias: &'a Tensor,
    /// Running mean, updated in place.
    pub running_mean: &'a Tensor,
    /// Running variance, updated in place with the biased variance of the batch, as in Keras.
    pub running_var: &'a Tensor,
    /// Weight of the batch statistics in the update: 1 - momentum in Keras, momentum in PyTorch.
    pub update: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// State saved for the backward pass.
pub struct Saved {
    weight: Tensor,
    /// Mean of the batch, [C].
    mean: Vec<f64>,
    /// Standard deviation of the batch, with epsilon, [C].
    deviation: Vec<f64>,
    /// The part of the batch, if the statistics are those of all parts.
    shard: Option<Arc<Shard>>,
}

impl BatchNorm<'_> {
    /// Computes the coefficients [C] from the batch, and updates the running statistics.
    pub fn forward<E: Element>(&self, passes: &Passes<'_, E>) -> Result<(Affine, Saved)> {
        let shard = Shard::of_norms();
        let count = count_all(passes.rows(), shard.as_ref());
        let mut running_mean = values_of(self.running_mean)?;
        let mut running_var = values_of(self.running_var)?;
        let mut sums = vec![0.0; 2 * passes.groups() * passes.channels];
        // The mean first, then squares about it: a variance much smaller than the mean keeps its
        // precision.
        passes.sums(&running_mean, &mut sums)?;
        let [mut sum, _] = totals(&sums, passes.channels);
        sum_all(shard.as_ref(), [&mut sum, &mut []])?;
        let center: Vec<f32> = means(&sum, count, &running_mean).map(|mean| mean as f32).collect();
        passes.sums(&center, &mut sums)?;
        let [mut sum, mut square] = totals(&sums, passes.channels);
        sum_all(shard.as_ref(), [&mut sum, &mut square])?;
        let mean: Vec<f64> = means(&sum, count, &center).collect();
        let variance: Vec<f64> =
            square.iter().zip(&sum).map(|(square, sum)| (square / count - (sum / count).powi(2)).max(0.0)).collect();

        for (running, new) in running_mean.iter_mut().zip(&mean).chain(running_var.iter_mut().zip(&variance)) {
            *running = (f64::from(*running) * (1.0 - self.update) + new * self.update) as f32;
        }
        overwrite(self.running_mean, &running_mean)?;
        overwrite(self.running_var, &running_var)?;

        let weight = self.weight.f_detach()?;
        let deviation: Vec<f64> = variance.iter().map(|variance| (variance + self.epsilon).sqrt()).collect();
        let factor: Vec<f32> = (values_of(&weight)?.iter().zip(&deviation))
            .map(|(weight, deviation)| (f64::from(*weight) / deviation) as f32)
            .collect();
        let offset: Vec<f32> = (values_of(self.bias)?.iter().zip(&mean).zip(&factor))
            .map(|((bias, mean), factor)| (f64::from(*bias) - mean * f64::from(*factor)) as f32)
            .collect();
        Ok((Affine { factor, offset }, Saved { weight, mean, deviation, shard }))
    }
}

impl Saved {
    /// Computes the gradient of the input to `to`, and returns those of weight and bias.
    pub fn backward<E: Element>(
        &self,
        passes: &Passes<'_, E>,
        from: &OutputGradient<'_, E>,
        to: &mut [E],
    ) -> Result<Vec<Tensor>> {
        let count = count_all(passes.rows(), self.shard.as_ref());
        let center: Vec<f32> = self.mean.iter().map(|mean| *mean as f32).collect();
        let mut sums = vec![0.0; 2 * passes.groups() * passes.channels];
        passes.backward_sums(from, &center, &mut sums)?;
        let [mut sum, mut product] = totals(&sums, passes.channels);
        // The products are about the mean in float32; its remaining digits follow from the sums.
        for (((product, sum), mean), center) in product.iter_mut().zip(&sum).zip(&self.mean).zip(&center) {
            *product -= (mean - f64::from(*center)) * sum;
        }

        // Of this part: gradients are added up later.
        let of_weight: Vec<f32> =
            product.iter().zip(&self.deviation).map(|(product, deviation)| (product / deviation) as f32).collect();
        let of_bias: Vec<f32> = sum.iter().map(|sum| *sum as f32).collect();
        sum_all(self.shard.as_ref(), [&mut sum, &mut product])?;

        // dx = w/s ((dy - mean(dy)) - (x - m)/s² mean(dy (x - m)))
        let (mut by_gradient, mut by_input) = (Vec::new(), Vec::new());
        for ((weight, deviation), product) in values_of(&self.weight)?.iter().zip(&self.deviation).zip(&product) {
            let scale = f64::from(*weight) / deviation;
            by_gradient.push(scale as f32);
            by_input.push((-scale * product / count / (deviation * deviation)) as f32);
        }
        let gradient_mean: Vec<f32> = sum.iter().map(|sum| (sum / count) as f32).collect();
        let by = Coefficients::Centered {
            gradient: &by_gradient,
            gradient_mean: &gradient_mean,
            input: &by_input,
            center: &center,
        };
        passes.backward_apply(from, &by, to, None)?;
        Ok(vec![Tensor::f_from_slice(&of_weight)?, Tensor::f_from_slice(&of_bias)?])
    }
}

/// Rows of the whole batch, of which `rows` are here.
fn count_all(rows: usize, shard: Option<&Arc<Shard>>) -> f64 {
    shard.map_or(rows as f64, |shard| shard.count_all(rows))
}

/// Adds up sums [2, groups, C] over the groups, in their order.
fn totals(sums: &[f64], channels: usize) -> [Vec<f64>; 2] {
    let (first, second) = sums.split_at(sums.len() / 2);
    [first, second].map(|sums| {
        let mut totals = vec![0.0; channels];
        for group in sums.chunks(channels) {
            totals.iter_mut().zip(group).for_each(|(total, sum)| *total += sum);
        }
        totals
    })
}

/// Returns the means of x from the sums of x - `center`.
fn means<'a>(sums: &'a [f64], count: f64, center: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
    sums.iter().zip(center).map(move |(sum, center)| sum / count + f64::from(*center))
}

/// Copies the values of a contiguous float32 tensor.
fn values_of(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor_slice::slice(tensor)?.to_vec())
}

/// Overwrites a contiguous float32 tensor in place; the network shares its memory.
fn overwrite(tensor: &Tensor, values: &[f32]) -> Result<()> {
    let mut tensor = tensor.shallow_clone();
    let chunks = tensor_slice::in_place_chunks::<f32>(&mut tensor, values.len())?;
    chunks.into_iter().for_each(|mut chunk| chunk.write(values));
    Ok(())
}
