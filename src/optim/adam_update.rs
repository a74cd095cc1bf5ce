//! Adam's update of a [`Part`] of the flat tensors: a fused kernel on the CPU, libtorch's
//! operations elsewhere.

use anyhow::Result;
use kernels::adam::{self, Update};
use tch::{Device, Tensor};
use torch_ext::{parallel, tensor_slice};

use super::parts::Part;
use crate::device;

/// Adam's update of the `values` of `part`: a fused kernel on the CPU, libtorch operations
/// elsewhere. `moments` are those of all parts.
pub fn adam(
    values: &mut Tensor,
    gradients: &Tensor,
    moments: [&mut Tensor; 2],
    part: &Part,
    update: Update,
) -> Result<()> {
    if values.device() == Device::Cpu && kernels::isa().is_some() {
        adam_fused(values, gradients, moments, part, update)
    } else {
        adam_reference(values, gradients, moments, part, update)
    }
}

/// The coefficients of the update at `step`, counted from 1.
pub fn adam_coefficients(lr: f64, step: u64, [beta1, beta2, eps]: [f64; 3]) -> Update {
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    Update {
        into_first: (1.0 - beta1) as f32,
        into_second: (1.0 - beta2) as f32,
        rate: (lr / correction(beta1)) as f32,
        scale: (1.0 / correction(beta2).sqrt()) as f32,
        epsilon: eps as f32,
    }
}

/// Elements per call of the kernel: its steps stay in a first-level cache.
const ADAM_BLOCK: usize = 2048;

fn adam_fused(
    values: &mut Tensor,
    gradients: &Tensor,
    [first, second]: [&mut Tensor; 2],
    part: &Part,
    update: Update,
) -> Result<()> {
    let chunk = device::chunk_size(values.numel());
    let range = usize::try_from(part.start)?..usize::try_from(part.start + part.length)?;
    let outside = || anyhow::anyhow!("the optimizer state has no elements {range:?}");
    // The parameters share memory with the network, so they are updated in place, not borrowed.
    let values = tensor_slice::in_place_chunks::<f32>(values, chunk)?;
    let first = tensor_slice::slice_mut::<f32>(first)?.get_mut(range.clone()).ok_or_else(outside)?;
    let second = tensor_slice::slice_mut::<f32>(second)?.get_mut(range.clone()).ok_or_else(outside)?;
    let moments = first.chunks_mut(chunk).zip(second.chunks_mut(chunk));
    let gradients = tensor_slice::slice::<f32>(gradients)?.chunks(chunk);
    let work = values.into_iter().zip(moments).zip(gradients).collect();
    parallel::for_each(work, |((mut values, (first, second)), gradients)| {
        let mut steps = [0.0; ADAM_BLOCK];
        let moments = first.chunks_mut(ADAM_BLOCK).zip(second.chunks_mut(ADAM_BLOCK));
        for (block, ((first, second), gradients)) in moments.zip(gradients.chunks(ADAM_BLOCK)).enumerate() {
            if let Some(steps) = steps.get_mut(..gradients.len()) {
                adam::update(first, second, gradients, update, steps);
                values.subtract(block * ADAM_BLOCK, steps);
            }
        }
    })
}

fn adam_reference(
    values: &mut Tensor,
    gradients: &Tensor,
    [first, second]: [&mut Tensor; 2],
    part: &Part,
    update: Update,
) -> Result<()> {
    let (mut first, mut second) = (part.of(first)?, part.of(second)?);
    let _ = first.f_lerp_(gradients, f64::from(update.into_first))?;
    let _ = second.f_lerp_(&gradients.f_square()?, f64::from(update.into_second))?;
    let divisor = second.f_sqrt()?.f_mul_scalar_(f64::from(update.scale))?.f_add_scalar_(f64::from(update.epsilon))?;
    let _ = values.f_addcdiv_(&first.f_mul_scalar(-f64::from(update.rate))?, &divisor)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FlatParameters;
    use crate::optim::parts::one_part;
    use crate::testing::signed;

    #[test]
    fn fused_adam_agrees_with_reference() {
        let start: Vec<f32> = (0..1000).map(|i| signed(i, 3) as f32).collect();
        let mut both = [(); 2].map(|()| {
            let parameters = FlatParameters::for_tests(&start, 1000);
            let moments = [parameters.values.zeros_like(), parameters.values.zeros_like()];
            (parameters, moments)
        });
        for step in 1..=20u32 {
            let gradient: Vec<f32> = (0..1000).map(|i| signed(1000 * step + i, 4) as f32).collect();
            for (number, (parameters, [first, second])) in both.iter_mut().enumerate() {
                parameters.gradients.copy_(&Tensor::from_slice(&gradient));
                let update = if number == 0 { adam_fused } else { adam_reference };
                let coefficients = adam_coefficients(1e-2, step.into(), [0.9, 0.999, 1e-7]);
                let (part, gradients) = (one_part(parameters)[0], parameters.gradients.shallow_clone());
                let values = &mut parameters.values;
                tch::no_grad(|| update(values, &gradients, [first, second], &part, coefficients)).unwrap();
            }
        }
        let difference = (&both[0].0.values - &both[1].0.values).abs().max().double_value(&[]);
        assert!(difference < 5e-7, "differs by {difference}");
        assert!(
            (&both[0].0.values - Tensor::from_slice(&start)).abs().min().double_value(&[]) > 0.0,
            "all parameters change"
        );
    }
}
