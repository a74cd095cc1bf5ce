//! Muon's update of the weights of one layer: its momentum, orthogonalized.
//!
//! Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the learning rate
//! is scaled as in Liu et al. 2025, "Muon is Scalable for LLM Training" (in PyTorch:
//! `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`).

use anyhow::Result;
use tch::Tensor;

use super::optimizer_config::MuonConfig;

/// Coefficients of the quintic iteration `a X + b (X Xᵀ) X + c (X Xᵀ)² X`, those of Jordan et al.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Newton-Schulz iterations; singular values are then about 0.7 to 1.2.
const ITERATIONS: usize = 5;

/// Lower bound of the norm that a matrix is divided by.
const EPSILON: f64 = 1e-7;

/// Root mean square of the elements of an update, like that of AdamW's (Liu et al. 2025).
const ADAMW_RMS: f64 = 0.2;

/// Updates the weights of a layer and its `momentum`, float32 [rows, columns] with a row for each
/// filter or unit, at the learning rate `lr`, float32 `[1]` on their device.
pub fn update(
    values: &mut Tensor,
    gradient: &Tensor,
    momentum: &mut Tensor,
    lr: &Tensor,
    config: &MuonConfig,
) -> Result<()> {
    let change = direction(gradient, momentum, config)?.f_mul_(lr)?;
    let kept = lr.f_mul_scalar(-config.weight_decay)?.f_add_scalar_(1.0)?;
    let _ = values.f_mul_(&kept)?.f_sub_(&change)?;
    Ok(())
}

/// Updates `momentum`, and returns the change of the weights for a learning rate of 1.
fn direction(gradient: &Tensor, momentum: &mut Tensor, config: &MuonConfig) -> Result<Tensor> {
    let _ = momentum.f_lerp_(gradient, 1.0 - config.momentum)?;
    let ahead = if config.nesterov { gradient.f_lerp(momentum, config.momentum)? } else { momentum.shallow_clone() };
    let (rows, columns) = gradient.size2()?;
    let scale = ADAMW_RMS * (rows.max(columns) as f64).sqrt();
    Ok(orthogonalize(&ahead)?.f_mul_scalar_(scale)?)
}

/// About the nearest matrix to `matrix`, float32 [rows, columns], whose rows, or columns if they
/// are fewer, are orthonormal.
///
/// The iterations of Jordan et al. multiply X from the left by polynomials of X Xᵀ. They commute, so
/// the product of all of them is computed first, from the first X Xᵀ: with many columns per row, as
/// in convolutions, that is a third of the work.
fn orthogonalize(matrix: &Tensor) -> Result<Tensor> {
    let (rows, columns) = matrix.size2()?;
    if rows > columns {
        return Ok(orthogonalize(&matrix.f_tr()?)?.f_tr()?);
    }
    let start = matrix.f_div(&matrix.f_norm()?.f_clamp_min(EPSILON)?)?;
    let mut gram = start.f_mm(&start.f_tr()?)?;
    let [a, b, c] = QUINTIC;
    let mut product: Option<Tensor> = None;
    for iteration in 1..=ITERATIONS {
        // a I + b G + c G²
        let polynomial = gram.f_mm(&gram)?.f_mul_scalar_(c)?.f_add_(&gram.f_mul_scalar(b)?)?;
        let _ = polynomial.f_diagonal(0, 0, 1)?.f_add_scalar_(a)?;
        if iteration < ITERATIONS {
            gram = polynomial.f_mm(&gram)?.f_mm(&polynomial)?;
        }
        product = Some(match product {
            Some(before) => polynomial.f_mm(&before)?,
            None => polynomial,
        });
    }
    Ok(match product {
        Some(product) => product.f_mm(&start)?,
        None => start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use tch::Kind;

    /// The singular values of what Muon's iteration makes of matrices as wide as a layer's.
    #[test]
    fn singular_values_are_near_one() {
        for shape in [[32, 9], [64, 288], [256, 64], [7, 256], [1, 40]] {
            let found = orthogonalize(&noise(&shape, 3)).unwrap();
            let (_, values, _) = found.svd(true, true);
            assert_eq!(found.size(), shape);
            assert!(values.min().double_value(&[]) > 0.6, "{shape:?}: {values}");
            assert!(values.max().double_value(&[]) < 1.25, "{shape:?}: {values}");
        }
    }

    /// The iteration as Jordan et al. write it, on X itself, in float64.
    fn reference(matrix: &Tensor) -> Tensor {
        let matrix = matrix.to_kind(Kind::Double);
        let mut x = &matrix / matrix.norm();
        for _ in 0..ITERATIONS {
            let gram = x.mm(&x.tr());
            let [a, b, c] = QUINTIC;
            x = a * &x + (b * &gram + c * gram.mm(&gram)).mm(&x);
        }
        x.to_kind(Kind::Float)
    }

    /// Also with rows that are nearly dependent, whose small singular values the iterations grow by
    /// hundreds.
    #[test]
    fn agrees_with_the_iteration_in_float64() {
        for (spread, tolerance) in [(1.0, 1e-5), (1e-2, 1e-4), (1e-4, 2e-2)] {
            let rows: Vec<f32> = (0..64).map(|row| f32::powf(spread, row as f32 / 63.0)).collect();
            let mixed = noise(&[64, 64], 5).mm(&(noise(&[64, 576], 6) * Tensor::from_slice(&rows).view([64, 1])));
            let difference = orthogonalize(&mixed).unwrap() - reference(&mixed);
            let worst = difference.abs().max().double_value(&[]);
            assert!(worst < tolerance, "{spread}: differs by {worst}");
        }
    }

    #[test]
    fn a_gradient_of_zero_changes_nothing() {
        let zero = Tensor::zeros([4, 9], (Kind::Float, tch::Device::Cpu));
        let change = direction(&zero, &mut zero.copy(), &MuonConfig::default()).unwrap();
        assert_eq!(change.abs().max().double_value(&[]), 0.0);
    }
}
