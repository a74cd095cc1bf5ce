//! Mixup and CutMix: each image of a batch is mixed with the next one, and so are the targets.

use anyhow::Result;
use tch::Tensor;

use super::config::AugmentConfig;
use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// The mixing of one batch: each image with the next one, the last with the first, all with the
/// same parameters. Batches are shuffled, so the next image is a random one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// `lambda * image + (1 - lambda) * next`; Zhang et al. 2018, "mixup: Beyond Empirical Risk
    /// Minimization".
    Mixup {
        /// Weight of the image, 0 to 1.
        lambda: f64,
    },
    /// Replaces a box by that of the next image; Yun et al. 2019, "CutMix: Regularization Strategy
    /// to Train Strong Classifiers with Localizable Features".
    Cutmix {
        /// The box in pixels.
        cut: CutBox,
    },
}

/// A box of whole pixels inside an image; may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutBox {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Number of rows.
    pub height: i64,
    /// Number of columns.
    pub width: i64,
}

/// Samples the mixing of one step; `None` if `augment.mixup` and `augment.cutmix` are off. If both
/// are on, each is chosen with probability 1/2, as in timm's `Mixup`. `rng` has streams for the
/// choice, for mixup and for CutMix.
pub fn sample(config: &AugmentConfig, rng: [Rng; 3]) -> Option<Mix> {
    let [mut choice, mut mixup, mut cutmix] = rng;
    match (config.mixup > 0.0, config.cutmix > 0.0) {
        (false, false) => None,
        (true, cut) if !cut || choice.uniform() < 0.5 => Some(Mix::Mixup { lambda: mixup.beta(config.mixup) }),
        _ => {
            let lambda = cutmix.beta(config.cutmix);
            let mut coordinate = || cutmix.below(SIDE as u64) as i64;
            Some(Mix::Cutmix { cut: CutBox::centered(coordinate(), coordinate(), lambda) })
        }
    }
}

impl CutBox {
    /// A box with the fraction `1 - lambda` of the image's area, centered at row `y` and column `x`
    /// and clipped to the image: `rand_bbox` of the paper.
    fn centered(y: i64, x: i64, lambda: f64) -> Self {
        let side = SIDE as i64;
        let half = (side as f64 * (1.0 - lambda).sqrt()) as i64 / 2;
        let [top, left, bottom, right] = [y - half, x - half, y + half, x + half].map(|edge| edge.clamp(0, side));
        Self { top, left, height: bottom - top, width: right - left }
    }
}

impl Mix {
    /// Leaves images and targets as they are.
    pub const NONE: Self = Self::Mixup { lambda: 1.0 };

    /// Weight of the image in its target. For CutMix it is the exact fraction of pixels, after
    /// rounding and clipping.
    pub fn lambda(&self) -> f64 {
        match self {
            Self::Mixup { lambda } => *lambda,
            Self::Cutmix { cut } => 1.0 - (cut.height * cut.width) as f64 / (SIDE * SIDE) as f64,
        }
    }

    /// Mixes `images` ([B, 1, 48, 48], float32 or bf16), which may be modified in place.
    pub fn mix_images(&self, images: Tensor) -> Result<Tensor> {
        match self {
            Self::Mixup { lambda } => blend(&images, *lambda),
            Self::Cutmix { cut } => {
                let mut region = images.f_narrow(2, cut.top, cut.height)?.f_narrow(3, cut.left, cut.width)?;
                let next = region.f_roll([-1i64], [0i64])?;
                region.f_copy_(&next)?;
                Ok(images)
            }
        }
    }

    /// Mixes soft targets (float32 [B, classes]) with the weights of the images.
    pub fn mix_targets(&self, soft: &Tensor) -> Result<Tensor> {
        blend(soft, self.lambda())
    }
}

/// `lambda * row + (1 - lambda) * next row`.
fn blend(rows: &Tensor, lambda: f64) -> Result<Tensor> {
    Ok(rows.f_lerp(&rows.f_roll([-1i64], [0i64])?, 1.0 - lambda)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn config(mixup: f64, cutmix: f64) -> AugmentConfig {
        AugmentConfig { mixup, cutmix, ..AugmentConfig::default() }
    }

    fn sample_step(config: &AugmentConfig, step: u64) -> Option<Mix> {
        sample(config, [0, 1, 2].map(|stream| Rng::new(&[step, stream])))
    }

    /// Three images, each of a single gray level.
    fn images(kind: Kind) -> Tensor {
        Tensor::from_slice(&[0.0f32, 0.5, 1.0])
            .view([3, 1, 1, 1])
            .expand([3, 1, 48, 48], false)
            .contiguous()
            .to_kind(kind)
    }

    #[test]
    fn mixup_and_cutmix_are_equally_likely_if_both_are_on() {
        assert_eq!(sample_step(&config(0.0, 0.0), 1), None);
        let n = 2_000;
        let is_mixup = |mix: &Option<Mix>| matches!(mix, Some(Mix::Mixup { .. }));
        let both: Vec<_> = (0..n).map(|step| sample_step(&config(0.4, 1.0), step)).collect();
        let mixups = both.iter().filter(|mix| is_mixup(mix)).count();
        // Half of n. Tolerance: 5 standard deviations of 22.
        assert!(mixups.abs_diff(1_000) < 112, "{mixups} of {n}");
        for (step, mix) in (0..).zip(&both) {
            let alone = if is_mixup(mix) { config(0.4, 0.0) } else { config(0.0, 1.0) };
            assert_eq!(sample_step(&alone, step), *mix, "turning the other off does not change the sample");
        }
    }

    /// The mean of Beta(1, 1) is 1/2. For CutMix it is larger because boxes are clipped: 0.6935,
    /// computed with the paper's `rand_bbox` over all centers and 10,000 values of lambda.
    #[test]
    fn lambda_has_the_expected_mean() {
        let n = 20_000u64;
        let mean = |config: &AugmentConfig| {
            (0..n).filter_map(|step| sample_step(config, step)).map(|mix| mix.lambda()).sum::<f64>() / n as f64
        };
        // The standard deviation of the mean is at most 0.002.
        let mixup = mean(&config(1.0, 0.0));
        assert!((mixup - 0.5).abs() < 0.01, "{mixup}");
        let cutmix = mean(&config(0.0, 1.0));
        assert!((cutmix - 0.6935).abs() < 0.01, "{cutmix}");
    }

    #[test]
    fn mixup_blends_with_the_next_image() {
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 2e-3)] {
            let mixed = Mix::Mixup { lambda: 0.7 }.mix_images(images(kind)).unwrap();
            assert_eq!((mixed.size(), mixed.kind()), (vec![3, 1, 48, 48], kind));
            for (image, expected) in [0.7 * 0.0 + 0.3 * 0.5, 0.7 * 0.5 + 0.3 * 1.0, 0.7 * 1.0].into_iter().enumerate() {
                let worst = (mixed.get(image as i64).to_kind(Kind::Float) - expected).abs().max().double_value(&[]);
                assert!(worst < tolerance, "{kind:?}, image {image}: off by {worst}");
            }
        }
    }

    #[test]
    fn cutmix_pastes_a_box_and_lambda_is_its_exact_area() {
        let cut = CutBox::centered(10, 47, 0.75);
        assert_eq!(cut, CutBox { top: 0, left: 35, height: 22, width: 13 }, "24x24, clipped at two edges");
        let mix = Mix::Cutmix { cut };
        assert!((mix.lambda() - (1.0 - 286.0 / 2304.0)).abs() < 1e-12);
        for kind in [Kind::Float, Kind::BFloat16] {
            let expected = images(kind);
            for (image, gray) in [(0, 0.5), (1, 1.0), (2, 0.0)] {
                let _ = expected.get(image).narrow(1, 0, 22).narrow(2, 35, 13).fill_(gray);
            }
            assert!(mix.mix_images(images(kind)).unwrap().equal(&expected), "{kind:?}");
        }
        assert!(Mix::NONE.mix_images(images(Kind::BFloat16)).unwrap().equal(&images(Kind::BFloat16)));
        let empty = CutBox::centered(5, 5, 1.0);
        assert_eq!((empty.height, empty.width), (0, 0));
        assert!(Mix::Cutmix { cut: empty }.mix_images(images(Kind::Float)).unwrap().equal(&images(Kind::Float)));
        assert_eq!(CutBox::centered(24, 24, 0.0), CutBox { top: 0, left: 0, height: 48, width: 48 });
    }

    #[test]
    fn targets_are_mixed_like_images() {
        let soft = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.5, 0.5]).view([3, 2]);
        let mixed = Mix::Mixup { lambda: 0.75 }.mix_targets(&soft).unwrap();
        let expected = Tensor::from_slice(&[0.75f32, 0.25, 0.125, 0.875, 0.625, 0.375]).view([3, 2]);
        assert!((mixed - expected).abs().max().double_value(&[]) < 1e-6);
    }
}
