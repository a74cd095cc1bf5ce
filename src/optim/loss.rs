//! The loss of a step, and what it compares the logits with.

use anyhow::Result;
use tch::{Device, Kind, Reduction, Tensor};

use super::class_weights::{ClassWeights, class_weights};

/// What the network should say of each image of a batch.
#[derive(Debug)]
pub enum Targets {
    /// int64 `[B]`: its class.
    Classes(Tensor),
    /// float32 [B, classes]: the weight of each class, 0 to 1, summing to 1.
    Soft(Tensor),
}

impl Targets {
    /// The soft of each class, float32 [B, classes]; 1 for its own class where there is but one.
    ///
    /// # Errors
    /// libtorch's.
    pub fn soft_targets(&self, classes: usize) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.f_one_hot(classes as i64)?.f_to_dtype(Kind::Float, false, false)?,
            Self::Soft(soft) => soft.shallow_clone(),
        })
    }

    /// int64 `[B]`: the class of the greatest weight, the first of equals.
    ///
    /// # Errors
    /// libtorch's.
    pub fn argmax(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.shallow_clone(),
            Self::Soft(soft) => soft.f_argmax(-1, false)?,
        })
    }
}

/// Cross-entropy of the softmax, as `torch.nn.CrossEntropyLoss`.
///
/// With weights w, log-probabilities l and a smoothing s over C classes, the mean is over N images
/// - of classes y: ((1 - s) sum(-w_y l_y) + s/C sum(sum_c -w_c l_c)) / sum(w_y), not divided by N;
/// - of soft p: sum(sum_c -w_c ((1 - s) p_c + s/C) l_c) / N.
///
/// One deviation: a batch of nothing but classes with weight 0 has the loss 0, where PyTorch divides 0 by 0.
#[derive(Debug)]
pub struct Loss {
    smoothing: f64,
    /// float32 `[classes]`
    weights: Option<Tensor>,
}

impl Loss {
    /// The loss that `[train]` asks for on `device`, of training images of which each class has `counts`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(smoothing: f64, weighting: &ClassWeights, counts: &[u64], device: Device) -> Result<Self> {
        let weights = class_weights(weighting, counts);
        let weights = weights.map(|weights| Tensor::f_from_slice(&weights)?.f_to_device(device)).transpose()?;
        Ok(Self { smoothing, weights })
    }

    /// The mean over a batch, a float32 scalar with history, of logits float32 [B, classes].
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let (Targets::Classes(target) | Targets::Soft(target)) = targets;
        let of =
            |reduction| logits.f_cross_entropy_loss(target, self.weights.as_ref(), reduction, -100, self.smoothing);
        match (targets, &self.weights) {
            (Targets::Classes(labels), Some(weights)) => {
                let total = weights.f_index_select(0, labels)?.f_sum(Kind::Float)?;
                // What is divided by infinity is 0, and so is its gradient.
                let divisor = total.f_masked_fill(&total.f_eq(0.0)?, f64::INFINITY)?;
                Ok(of(Reduction::Sum)?.f_div(&divisor)?)
            }
            _ => Ok(of(Reduction::Mean)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of two images; log-probabilities by hand: z - ln(sum of e^z).
    fn logits() -> Tensor {
        Tensor::from_slice(&[1.0f32, 2.0, 3.0, 0.5, 0.0, -0.5]).view([2, 3])
    }

    fn loss(smoothing: f64, targets: &Targets) -> f64 {
        Loss::new(smoothing, &ClassWeights::None, &[1; 3], Device::Cpu)
            .unwrap()
            .of(&logits(), targets)
            .unwrap()
            .double_value(&[])
    }

    #[test]
    fn is_the_cross_entropy_with_smoothed_targets() {
        let log_sum = |row: [f64; 3]| row.iter().map(|z| z.exp()).sum::<f64>().ln();
        let rows = [[1.0, 2.0, 3.0], [0.5, 0.0, -0.5]];
        let by_hand = |soft: [[f64; 3]; 2], smoothing: f64| {
            let of = |(row, soft): (&[f64; 3], [f64; 3])| -> f64 {
                let smoothed = soft.map(|weight| (1.0 - smoothing) * weight + smoothing / 3.0);
                -row.iter().zip(smoothed).map(|(z, weight)| weight * (z - log_sum(*row))).sum::<f64>()
            };
            rows.iter().zip(soft).map(of).sum::<f64>() / 2.0
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
        let same = Targets::Soft(hard().soft_targets(3).unwrap());
        assert!((loss(0.1, &same) - loss(0.1, &hard())).abs() < 1e-6, "one-hot soft are classes");
        assert_eq!(logits().device(), Device::Cpu);
    }

    /// The formulas above, written out with numbers: `torch.nn.CrossEntropyLoss(weight=..., label_smoothing=...)` documents them for
    /// classes as l_n = -w_y log p_y over the sum of w_y, for soft as l_n = -sum_c w_c log p_c y_c over N.
    #[test]
    fn weights_count_as_pytorch_documents_them() {
        let weights = [0.5, 2.0, 3.0];
        let log_probabilities: Vec<[f64; 3]> = [[1.0f64, 2.0, 3.0], [0.5, 0.0, -0.5]]
            .map(|row| row.map(|z| z - row.iter().map(|z| z.exp()).sum::<f64>().ln()))
            .to_vec();
        let loss = |smoothing: f64, weights: &[f64], targets: &Targets| {
            let given = ClassWeights::Given(weights.to_vec());
            Loss::new(smoothing, &given, &[1; 3], Device::Cpu)
                .unwrap()
                .of(&logits(), targets)
                .unwrap()
                .double_value(&[])
        };
        let labels = [2usize, 1];
        let hard = || Targets::Classes(Tensor::from_slice(&[2i64, 1]));
        let soft = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]];
        let soft_targets = Targets::Soft(Tensor::from_slice(soft.as_flattened()).view([2, 3]).to_kind(Kind::Float));
        for smoothing in [0.0, 0.1] {
            let all = |row: &[f64; 3]| -row.iter().zip(weights).map(|(l, w)| w * l).sum::<f64>();
            let own = |(row, label): (&[f64; 3], usize)| -weights[label] * row[label];
            let of_labels = log_probabilities.iter().zip(labels).map(own).sum::<f64>() * (1.0 - smoothing)
                + log_probabilities.iter().map(all).sum::<f64>() * smoothing / 3.0;
            let wanted = of_labels / (weights[2] + weights[1]);
            assert!((loss(smoothing, &weights, &hard()) - wanted).abs() < 1e-6, "not {wanted}");
            let of_shares = |(row, soft): (&[f64; 3], [f64; 3])| {
                let terms = row.iter().zip(weights).zip(soft);
                -terms.map(|((l, w), weight)| w * l * ((1.0 - smoothing) * weight + smoothing / 3.0)).sum::<f64>()
            };
            let wanted = log_probabilities.iter().zip(soft).map(of_shares).sum::<f64>() / 2.0;
            assert!((loss(smoothing, &weights, &soft_targets) - wanted).abs() < 1e-6, "not {wanted}");
            // libtorch's own mean, where there is one.
            let weights = Tensor::from_slice(&weights.map(|w| w as f32));
            let target = Tensor::from_slice(&[2i64, 1]);
            let mean = logits().cross_entropy_loss(&target, Some(&weights), Reduction::Mean, -100, smoothing);
            assert!((loss(smoothing, &[0.5, 2.0, 3.0], &hard()) - mean.double_value(&[])).abs() < 1e-6);
        }
        assert!((loss(0.0, &[2.0; 3], &hard()) - loss(0.0, &[1.0; 3], &hard())).abs() < 1e-6, "a mean, not a sum");
        assert!((loss(0.0, &[2.0; 3], &soft_targets) - 2.0 * loss(0.0, &[1.0; 3], &soft_targets)).abs() < 1e-6);
    }

    #[test]
    fn a_batch_of_classes_that_do_not_count_moves_nothing() {
        for label_smoothing in [0.0, 0.1] {
            let class_weights = ClassWeights::Given(vec![1.0, 0.0, 0.0]);
            let logits = logits().set_requires_grad(true);
            let targets = Targets::Classes(Tensor::from_slice(&[2i64, 1]));
            let loss = Loss::new(label_smoothing, &class_weights, &[1; 3], Device::Cpu)
                .unwrap()
                .of(&logits, &targets)
                .unwrap();
            loss.backward();
            assert_eq!(loss.double_value(&[]), 0.0);
            assert_eq!(logits.grad().abs().sum(Kind::Float).double_value(&[]), 0.0);
        }
    }
}
