//! Adam's update (Kingma and Ba 2015) in one pass over memory.

use crate::dispatch::multiversion;

/// Constants of one update.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// 1 - beta1: weight of the gradient in the first moment.
    pub into_first: f32,
    /// 1 - beta2: weight of the squared gradient in the second moment. (Computed from a rounded
    /// beta2 it would lose digits.)
    pub into_second: f32,
    /// Learning rate, divided by the first moment's bias correction 1 - beta1^step.
    pub rate: f32,
    /// 1 / sqrt(1 - beta2^step): the second moment's bias correction.
    pub scale: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
}

/// Updates both moments from `gradients` and writes to `steps` what `torch.optim.Adam` subtracts
/// from the parameters.
///
/// # Panics
/// If the slices differ in length.
pub fn update(first: &mut [f32], second: &mut [f32], gradients: &[f32], update: Update, steps: &mut [f32]) {
    let length = steps.len();
    assert!(first.len() == length && second.len() == length && gradients.len() == length);
    run(first, second, gradients, update, steps);
}

multiversion! {
    fn run(first: &mut [f32], second: &mut [f32], gradients: &[f32], update: Update, steps: &mut [f32]) = body
}

#[inline(always)]
fn body(first: &mut [f32], second: &mut [f32], gradients: &[f32], by: Update, steps: &mut [f32]) {
    for (((step, first), second), gradient) in steps.iter_mut().zip(first).zip(second).zip(gradients) {
        *first += (gradient - *first) * by.into_first;
        *second += (gradient * gradient - *second) * by.into_second;
        *step = by.rate * *first / (second.sqrt() * by.scale + by.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_reference() {
        crate::isa::tests::for_each_isa(|_| [0.999, 0.999_99].into_iter().for_each(compare));
    }

    fn compare(beta2: f64) {
        let gradients: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) / 20.0).collect();
        let (mut values, mut first, mut second) = (vec![1.0f32; 1000], vec![0.0; 1000], vec![0.0; 1000]);
        let (beta1, beta2, lr, epsilon) = (0.9f64, beta2, 1e-3, 1e-7);
        let mut steps = vec![0.0; 1000];
        let mut expected = vec![(1.0f64, 0.0f64, 0.0f64); 1000];
        for step in 1..=5 {
            let by = Update {
                into_first: (1.0 - beta1) as f32,
                into_second: (1.0 - beta2) as f32,
                rate: (lr / (1.0 - beta1.powi(step))) as f32,
                scale: (1.0 / (1.0 - beta2.powi(step)).sqrt()) as f32,
                epsilon: epsilon as f32,
            };
            update(&mut first, &mut second, &gradients, by, &mut steps);
            values.iter_mut().zip(&steps).for_each(|(value, step)| *value -= step);
            for ((value, m, v), gradient) in expected.iter_mut().zip(&gradients) {
                let gradient = f64::from(*gradient);
                *m = beta1 * *m + (1.0 - beta1) * gradient;
                *v = beta2 * *v + (1.0 - beta2) * gradient * gradient;
                let (m, v) = (*m / (1.0 - beta1.powi(step)), *v / (1.0 - beta2.powi(step)));
                *value -= lr * m / (v.sqrt() + epsilon);
            }
        }
        for (value, (expected, ..)) in values.iter().zip(&expected) {
            assert!((f64::from(*value) - expected).abs() < 5e-7, "{value}, expected {expected}");
        }
    }
}
