//! Mixup and CutMix: each image of a batch takes in the next one, and the targets likewise.

use anyhow::Result;
use tch::Tensor;

use super::config::AugmentConfig;
use crate::data::images::SIDE;
use crate::util::rng::Rng;

/// How the images of one batch are mixed: all of them alike, each with the next one of the batch, the last with the first.
/// (The batch is shuffled, so the next image is any image.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Every pixel: `lambda` of the image itself, the rest of the next one; Zhang et al. 2018, "mixup: Beyond Empirical Risk
    /// Minimization".
    Mixup {
        /// Share of the image itself, 0 to 1.
        lambda: f64,
    },
    /// A box is the next image's; Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with
    /// Localizable Features".
    Cutmix {
        /// The box in pixels.
        cut: Cut,
    },
}

/// A box of whole pixels within an image, which may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Rows.
    pub height: i64,
    /// Columns.
    pub width: i64,
}

/// The mixing of one step, where `augment.mixup` or `augment.cutmix` are on: where both are, either with probability 1/2, as
/// timm's `Mixup`. `rng` has a stream for the choice, for mixup and for CutMix.
pub fn sample(config: &AugmentConfig, rng: [Rng; 3]) -> Option<Mix> {
    let [mut choice, mut mixup, mut cutmix] = rng;
    match (config.mixup > 0.0, config.cutmix > 0.0) {
        (false, false) => None,
        (true, cut) if !cut || choice.uniform() < 0.5 => Some(Mix::Mixup { lambda: mixup.beta(config.mixup) }),
        _ => {
            let lambda = cutmix.beta(config.cutmix);
            let mut place = || cutmix.below(SIDE as u64) as i64;
            Some(Mix::Cutmix { cut: Cut::about(place(), place(), lambda) })
        }
    }
}

impl Cut {
    /// The box of area `1 - lambda`, in soft of the image's, about row `y` and column `x`, cut at the image's edges: the paper's
    /// `rand_bbox`.
    fn about(y: i64, x: i64, lambda: f64) -> Self {
        let side = SIDE as i64;
        let half = (side as f64 * (1.0 - lambda).sqrt()) as i64 / 2;
        let [top, left, bottom, right] = [y - half, x - half, y + half, x + half].map(|place| place.clamp(0, side));
        Self { top, left, height: bottom - top, width: right - left }
    }
}

impl Mix {
    /// Share of the image itself in its pixels and its target. Of a box it is the true one, after rounding and cutting.
    pub fn lambda(&self) -> f64 {
        match self {
            Self::Mixup { lambda } => *lambda,
            Self::Cutmix { cut } => 1.0 - (cut.height * cut.width) as f64 / (SIDE * SIDE) as f64,
        }
    }

    /// Mixes `images` ([B, 1, 48, 48], float32 or bf16). Takes a tensor that nobody else uses.
    ///
    /// # Errors
    /// libtorch's.
    pub fn images(&self, images: Tensor) -> Result<Tensor> {
        match self {
            Self::Mixup { lambda } => blend(&images, *lambda),
            Self::Cutmix { cut } => {
                let mut inside = images.f_narrow(2, cut.top, cut.height)?.f_narrow(3, cut.left, cut.width)?;
                let next = inside.f_roll([-1i64], [0i64])?;
                inside.f_copy_(&next)?;
                Ok(images)
            }
        }
    }

    /// Mixes the soft of classes (float32 [B, classes]) as the images are mixed.
    ///
    /// # Errors
    /// libtorch's.
    pub fn soft_targets(&self, soft: &Tensor) -> Result<Tensor> {
        blend(soft, self.lambda())
    }
}

/// `lambda` of each row, the rest of the next one.
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

    fn of(config: &AugmentConfig, step: u64) -> Option<Mix> {
        sample(config, [0, 1, 2].map(|stream| Rng::new(&[step, stream])))
    }

    /// Three images of one gray level each.
    fn images(kind: Kind) -> Tensor {
        Tensor::from_slice(&[0.0f32, 0.5, 1.0])
            .view([3, 1, 1, 1])
            .expand([3, 1, 48, 48], false)
            .contiguous()
            .to_kind(kind)
    }

    #[test]
    fn one_of_the_two_where_both_are_on() {
        assert_eq!(of(&config(0.0, 0.0), 1), None);
        let n = 2_000;
        let is_mixup = |mix: &Option<Mix>| matches!(mix, Some(Mix::Mixup { .. }));
        let both: Vec<_> = (0..n).map(|step| of(&config(0.4, 1.0), step)).collect();
        let mixups = both.iter().filter(|mix| is_mixup(mix)).count();
        // Half of n, five standard deviations of 22 either way.
        assert!(mixups.abs_diff(1_000) < 112, "{mixups} of {n}");
        for (step, mix) in (0..).zip(&both) {
            let alone = if is_mixup(mix) { config(0.4, 0.0) } else { config(0.0, 1.0) };
            assert_eq!(of(&alone, step), *mix, "turning the other off leaves the draw");
        }
    }

    /// The mean of Beta(1, 1) is 1/2; of a box it is more, since edges cut some of them: by the paper's `rand_bbox`, summed
    /// over all places of the center and 10,000 soft, it is 0.6935.
    #[test]
    fn shares_have_the_right_mean() {
        let n = 20_000u64;
        let mean = |config: &AugmentConfig| {
            (0..n).filter_map(|step| of(config, step)).map(|mix| mix.lambda()).sum::<f64>() / n as f64
        };
        // Standard deviations of the mean are 0.002 at most.
        let mixup = mean(&config(1.0, 0.0));
        assert!((mixup - 0.5).abs() < 0.01, "{mixup}");
        let cutmix = mean(&config(0.0, 1.0));
        assert!((cutmix - 0.6935).abs() < 0.01, "{cutmix}");
    }

    #[test]
    fn mixup_blends_with_the_next_image() {
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 2e-3)] {
            let mixed = Mix::Mixup { lambda: 0.7 }.images(images(kind)).unwrap();
            assert_eq!((mixed.size(), mixed.kind()), (vec![3, 1, 48, 48], kind));
            for (image, wanted) in [0.7 * 0.0 + 0.3 * 0.5, 0.7 * 0.5 + 0.3 * 1.0, 0.7 * 1.0].into_iter().enumerate() {
                let worst = (mixed.get(image as i64).to_kind(Kind::Float) - wanted).abs().max().double_value(&[]);
                assert!(worst < tolerance, "{kind:?}, image {image}: off by {worst}");
            }
        }
    }

    #[test]
    fn cutmix_puts_in_a_box_and_its_true_area_counts() {
        let cut = Cut::about(10, 47, 0.75);
        assert_eq!(cut, Cut { top: 0, left: 35, height: 22, width: 13 }, "half of 24 either way, cut at two edges");
        let mix = Mix::Cutmix { cut };
        assert!((mix.lambda() - (1.0 - 286.0 / 2304.0)).abs() < 1e-12);
        for kind in [Kind::Float, Kind::BFloat16] {
            let wanted = images(kind);
            for (image, gray) in [(0, 0.5), (1, 1.0), (2, 0.0)] {
                let _ = wanted.get(image).narrow(1, 0, 22).narrow(2, 35, 13).fill_(gray);
            }
            assert!(mix.images(images(kind)).unwrap().equal(&wanted), "{kind:?}");
        }
        let none = Cut::about(5, 5, 1.0);
        assert_eq!((none.height, none.width), (0, 0));
        assert!(Mix::Cutmix { cut: none }.images(images(Kind::Float)).unwrap().equal(&images(Kind::Float)));
        assert_eq!(Cut::about(24, 24, 0.0), Cut { top: 0, left: 0, height: 48, width: 48 });
    }

    #[test]
    fn targets_are_mixed_as_images_are() {
        let soft = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.5, 0.5]).view([3, 2]);
        let mixed = Mix::Mixup { lambda: 0.75 }.soft_targets(&soft).unwrap();
        let wanted = Tensor::from_slice(&[0.75f32, 0.25, 0.125, 0.875, 0.625, 0.375]).view([3, 2]);
        assert!((mixed - wanted).abs().max().double_value(&[]) < 1e-6);
    }
}
