//! The loss of a step, and what it compares the logits with.

use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

use crate::config::TrainConfig;

/// What the network should say of each face of a batch.
#[derive(Debug)]
pub enum Targets {
    /// int64 `[B]`: its class.
    Classes(Tensor),
    /// float32 [B, classes]: the share of each class, 0 to 1, summing to 1.
    Shares(Tensor),
}

impl Targets {
    /// The shares of each class, float32 [B, classes]; 1 for its own class where there is but one.
    ///
    /// # Errors
    /// libtorch's.
    pub fn shares(&self, classes: usize) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.f_one_hot(classes as i64)?.f_to_dtype(Kind::Float, false, false)?,
            Self::Shares(shares) => shares.shallow_clone(),
        })
    }

    /// int64 `[B]`: the class of the greatest share, the first of equals.
    ///
    /// # Errors
    /// libtorch's.
    pub fn greatest(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Classes(labels) => labels.shallow_clone(),
            Self::Shares(shares) => shares.f_argmax(-1, false)?,
        })
    }
}

/// Cross-entropy of the softmax, as `torch.nn.CrossEntropyLoss`.
#[derive(Debug)]
pub struct Loss {
    smoothing: f64,
}

impl Loss {
    /// The loss that `[train]` asks for.
    pub fn new(config: &TrainConfig) -> Self {
        Self { smoothing: config.label_smoothing }
    }

    /// The mean over a batch, a float32 scalar with history, of logits float32 [B, classes].
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let (Targets::Classes(target) | Targets::Shares(target)) = targets;
        Ok(logits.f_cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, -100, self.smoothing)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Logits of two faces; log-probabilities by hand: z - ln(sum of e^z).
    fn logits() -> Tensor {
        Tensor::from_slice(&[1.0f32, 2.0, 3.0, 0.5, 0.0, -0.5]).view([2, 3])
    }

    fn loss(smoothing: f64, targets: &Targets) -> f64 {
        let config = TrainConfig { label_smoothing: smoothing, ..TrainConfig::default() };
        Loss::new(&config).of(&logits(), targets).unwrap().double_value(&[])
    }

    #[test]
    fn is_the_cross_entropy_with_smoothed_targets() {
        let log_sum = |row: [f64; 3]| row.iter().map(|z| z.exp()).sum::<f64>().ln();
        let rows = [[1.0, 2.0, 3.0], [0.5, 0.0, -0.5]];
        let by_hand = |shares: [[f64; 3]; 2], smoothing: f64| {
            let of = |(row, shares): (&[f64; 3], [f64; 3])| -> f64 {
                let smoothed = shares.map(|share| (1.0 - smoothing) * share + smoothing / 3.0);
                -row.iter().zip(smoothed).map(|(z, share)| share * (z - log_sum(*row))).sum::<f64>()
            };
            rows.iter().zip(shares).map(of).sum::<f64>() / 2.0
        };
        let hard = || Targets::Classes(Tensor::from_slice(&[2i64, 1]));
        let one_hot = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
        let soft = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]];
        let shares = Targets::Shares(
            Tensor::from_slice(&soft.as_flattened().iter().map(|v| *v as f32).collect::<Vec<_>>()).view([2, 3]),
        );
        for smoothing in [0.0, 0.1] {
            assert!((loss(smoothing, &hard()) - by_hand(one_hot, smoothing)).abs() < 1e-6);
            assert!((loss(smoothing, &shares) - by_hand(soft, smoothing)).abs() < 1e-6);
        }
        assert!(loss(0.1, &hard()) != loss(0.0, &hard()));
        assert_eq!(Vec::<i64>::try_from(shares.greatest().unwrap()).unwrap(), [2, 1]);
        let same = Targets::Shares(hard().shares(3).unwrap());
        assert!((loss(0.1, &same) - loss(0.1, &hard())).abs() < 1e-6, "one-hot shares are classes");
        assert_eq!(logits().device(), Device::Cpu);
    }
}
