//! The training loss and its targets.

use anyhow::Result;
use tch::{Device, Kind, Reduction, Tensor};

use super::class_weights::{ClassWeights, class_weights};

/// The targets of a batch.
#[derive(Debug)]
pub enum Targets {
    /// Class indices, int64 `[B]`.
    Classes(Tensor),
    /// Class probabilities, float32 [B, classes]; rows sum to 1.
    Soft(Tensor),
}

impl Targets {
    /// The most probable class, int64 `[B]`; the first one on ties.
    pub fn argmax(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.shallow_clone(),
            Self::Soft(soft) => soft.f_argmax(-1, false)?,
        })
    }
}

/// Cross-entropy with label smoothing and class weights, as `torch.nn.CrossEntropyLoss`.
///
/// With weights w, log-probabilities l, smoothing s and C classes, the loss of N images is
/// - for class indices y: ((1 - s) sum(-w_y l_y) + s/C sum(sum_c -w_c l_c)) / sum(w_y);
/// - for soft targets p: sum(sum_c -w_c ((1 - s) p_c + s/C) l_c) / N.
///
/// Unlike PyTorch, a batch whose classes all have weight 0 has loss 0, not NaN.
#[derive(Debug)]
pub struct Loss {
    smoothing: f64,
    /// float32 `[classes]`
    weights: Option<Tensor>,
}

impl Loss {
    /// Creates the loss on `device`. `counts` is the number of training images per class.
    pub fn new(smoothing: f64, weighting: &ClassWeights, counts: &[u64], device: Device) -> Result<Self> {
        let weights = class_weights(weighting, counts);
        let weights = weights.map(|weights| Tensor::f_from_slice(&weights)?.f_to_device(device)).transpose()?;
        Ok(Self { smoothing, weights })
    }

    /// The mean loss of a batch: a float32 scalar with autograd history, from logits float32
    /// [B, classes].
    pub fn forward(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        match (targets, &self.weights) {
            (Targets::Classes(labels), Some(weights)) => {
                Ok(self.reduced(logits, targets, Reduction::Sum)?.f_div(&total_weight(weights, labels)?)?)
            }
            _ => self.reduced(logits, targets, Reduction::Mean),
        }
    }

    /// What a part of a batch adds to the mean loss of the batch, whose images have the labels
    /// `all_labels`, int64 `[N]`.
    pub fn forward_part(&self, logits: &Tensor, targets: &Targets, all_labels: &Tensor) -> Result<Tensor> {
        let sum = self.reduced(logits, targets, Reduction::Sum)?;
        match (targets, &self.weights) {
            (Targets::Classes(_), Some(weights)) => Ok(sum.f_div(&total_weight(weights, all_labels)?)?),
            _ => Ok(sum.f_div_scalar(all_labels.size1()? as f64)?),
        }
    }

    fn reduced(&self, logits: &Tensor, targets: &Targets, reduction: Reduction) -> Result<Tensor> {
        let (Targets::Classes(target) | Targets::Soft(target)) = targets;
        Ok(logits.f_cross_entropy_loss(target, self.weights.as_ref(), reduction, -100, self.smoothing)?)
    }
}

/// The sum of the weights of `labels`, or infinity if it is 0: dividing by it makes loss and gradient 0.
fn total_weight(weights: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let total = weights.f_index_select(0, labels)?.f_sum(Kind::Float)?;
    Ok(total.f_masked_fill(&total.f_eq(0.0)?, f64::INFINITY)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of two images.
    fn logits() -> Tensor {
        Tensor::from_slice(&[1.0f32, 2.0, 3.0, 0.5, 0.0, -0.5]).view([2, 3])
    }

    fn loss(smoothing: f64, targets: &Targets) -> f64 {
        Loss::new(smoothing, &ClassWeights::None, &[1; 3], Device::Cpu)
            .unwrap()
            .forward(&logits(), targets)
            .unwrap()
            .double_value(&[])
    }

    #[test]
    fn matches_the_cross_entropy_formula() {
        let log_sum = |row: [f64; 3]| row.iter().map(|z| z.exp()).sum::<f64>().ln();
        let rows = [[1.0, 2.0, 3.0], [0.5, 0.0, -0.5]];
        let by_hand = |soft: [[f64; 3]; 2], smoothing: f64| {
            let row_loss = |(row, soft): (&[f64; 3], [f64; 3])| -> f64 {
                let smoothed = soft.map(|weight| (1.0 - smoothing) * weight + smoothing / 3.0);
                -row.iter().zip(smoothed).map(|(z, weight)| weight * (z - log_sum(*row))).sum::<f64>()
            };
            rows.iter().zip(soft).map(row_loss).sum::<f64>() / 2.0
        };
        let hard = || Targets::Classes(Tensor::from_slice(&[2i64, 1]));
        let one_hot = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
        let soft = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]];
        let soft_targets = Targets::Soft(
            Tensor::from_slice(&soft.as_flattened().iter().map(|v| *v as f32).collect::<Vec<_>>()).view([2, 3]),
        );
        for smoothing in [0.0, 0.1] {
            assert!((loss(smoothing, &hard()) - by_hand(one_hot, smoothing)).abs() < 1e-6);
            assert!((loss(smoothing, &soft_targets) - by_hand(soft, smoothing)).abs() < 1e-6);
        }
        assert!(loss(0.1, &hard()) != loss(0.0, &hard()));
        assert_eq!(Vec::<i64>::try_from(soft_targets.argmax().unwrap()).unwrap(), [2, 1]);
        let Targets::Classes(labels) = hard() else { panic!() };
        let one_hot = Targets::Soft(crate::data::device_images::one_hot(&labels, 3).unwrap());
        assert!((loss(0.1, &one_hot) - loss(0.1, &hard())).abs() < 1e-6);
        assert_eq!(logits().device(), Device::Cpu);
    }

    /// The formulas that `torch.nn.CrossEntropyLoss(weight=..., label_smoothing=...)` documents:
    /// l_n = -w_y log p_y over the sum of w_y for class indices, l_n = -sum_c w_c log p_c y_c over
    /// N for soft targets.
    #[test]
    fn class_weights_follow_pytorchs_formulas() {
        let weights = [0.5, 2.0, 3.0];
        let log_probabilities: Vec<[f64; 3]> = [[1.0f64, 2.0, 3.0], [0.5, 0.0, -0.5]]
            .map(|row| row.map(|z| z - row.iter().map(|z| z.exp()).sum::<f64>().ln()))
            .to_vec();
        let loss = |smoothing: f64, weights: &[f64], targets: &Targets| {
            let given = ClassWeights::Explicit(weights.to_vec());
            Loss::new(smoothing, &given, &[1; 3], Device::Cpu)
                .unwrap()
                .forward(&logits(), targets)
                .unwrap()
                .double_value(&[])
        };
        let labels = [2usize, 1];
        let hard = || Targets::Classes(Tensor::from_slice(&[2i64, 1]));
        let soft = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]];
        let soft_targets = Targets::Soft(Tensor::from_slice(soft.as_flattened()).view([2, 3]).to_kind(Kind::Float));
        for smoothing in [0.0, 0.1] {
            let all = |row: &[f64; 3]| -row.iter().zip(weights).map(|(l, w)| w * l).sum::<f64>();
            let labeled = |(row, label): (&[f64; 3], usize)| -weights[label] * row[label];
            let sum = log_probabilities.iter().zip(labels).map(labeled).sum::<f64>() * (1.0 - smoothing)
                + log_probabilities.iter().map(all).sum::<f64>() * smoothing / 3.0;
            let expected = sum / (weights[2] + weights[1]);
            assert!((loss(smoothing, &weights, &hard()) - expected).abs() < 1e-6, "expected {expected}");
            let soft_loss = |(row, soft): (&[f64; 3], [f64; 3])| {
                let terms = row.iter().zip(weights).zip(soft);
                -terms.map(|((l, w), p)| w * l * ((1.0 - smoothing) * p + smoothing / 3.0)).sum::<f64>()
            };
            let expected = log_probabilities.iter().zip(soft).map(soft_loss).sum::<f64>() / 2.0;
            assert!((loss(smoothing, &weights, &soft_targets) - expected).abs() < 1e-6, "expected {expected}");
            // libtorch's mean, which equals ours if a weight is not 0.
            let weights = Tensor::from_slice(&weights.map(|w| w as f32));
            let target = Tensor::from_slice(&[2i64, 1]);
            let mean = logits().cross_entropy_loss(&target, Some(&weights), Reduction::Mean, -100, smoothing);
            assert!((loss(smoothing, &[0.5, 2.0, 3.0], &hard()) - mean.double_value(&[])).abs() < 1e-6);
        }
        assert!((loss(0.0, &[2.0; 3], &hard()) - loss(0.0, &[1.0; 3], &hard())).abs() < 1e-6, "weighted mean");
        assert!((loss(0.0, &[2.0; 3], &soft_targets) - 2.0 * loss(0.0, &[1.0; 3], &soft_targets)).abs() < 1e-6);
    }

    #[test]
    fn batch_of_zero_weight_classes_has_zero_loss_and_gradient() {
        for label_smoothing in [0.0, 0.1] {
            let class_weights = ClassWeights::Explicit(vec![1.0, 0.0, 0.0]);
            let logits = logits().set_requires_grad(true);
            let targets = Targets::Classes(Tensor::from_slice(&[2i64, 1]));
            let loss = Loss::new(label_smoothing, &class_weights, &[1; 3], Device::Cpu)
                .unwrap()
                .forward(&logits, &targets)
                .unwrap();
            loss.backward();
            assert_eq!(loss.double_value(&[]), 0.0);
            assert_eq!(logits.grad().abs().sum(Kind::Float).double_value(&[]), 0.0);
        }
    }
}
