//! `[augment]`: random transforms of the training images.

use serde::{Deserialize, Serialize};

use super::flip::Flip;
use crate::util::validate::{InvalidValue, require};

/// `[augment]`: random transforms of the training images; 0 or false disables one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Rotation from U(-rotate, rotate) degrees.
    #[schemars(range(min = 0.0, max = 180.0))]
    pub rotate: f64,
    /// Shift from U(-shift, shift) of width and height.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub shift: f64,
    /// Zoom factors for x and y from U(1 - zoom, 1 + zoom).
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub zoom: f64,
    /// Horizontal flip: `true` with probability 1/2; `"alternating"` in every other epoch, so that two
    /// epochs have each image both ways.
    pub flip: Flip,
    /// Random resized crop with a fraction of the area from U(1 - crop, 1).
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub crop: f64,
    /// Brightness factor from U(1 - brightness, 1 + brightness).
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub brightness: f64,
    /// Contrast factor from U(1 - contrast, 1 + contrast).
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub contrast: f64,
    /// Gamma log-uniform from 1 / (1 + gamma) to 1 + gamma.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub gamma: f64,
    /// Probability of erasing a random rectangle.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub random_erasing: f64,
    /// Mixup with lambda from Beta(mixup, mixup).
    #[schemars(range(min = 0.0, max = 10.0))]
    pub mixup: f64,
    /// CutMix with lambda from Beta(cutmix, cutmix).
    #[schemars(range(min = 0.0, max = 10.0))]
    pub cutmix: f64,
    /// Fraction of the epochs after which mixup and CutMix are off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mix_until: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            rotate: 10.0,
            shift: 0.1,
            zoom: 0.1,
            flip: Flip::Random,
            crop: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            gamma: 0.0,
            random_erasing: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            mix_until: 1.0,
        }
    }
}

impl AugmentConfig {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        require((0.0..=180.0).contains(&self.rotate), "augment.rotate", self.rotate, "0 to 180 degrees")?;
        require((0.0..=1.0).contains(&self.shift), "augment.shift", self.shift, "0 to 1, a fraction of the edge")?;
        require((0.0..1.0).contains(&self.zoom), "augment.zoom", self.zoom, "0 to below 1")?;
        for (key, value) in [
            ("augment.crop", self.crop),
            ("augment.brightness", self.brightness),
            ("augment.contrast", self.contrast),
            ("augment.gamma", self.gamma),
        ] {
            require((0.0..1.0).contains(&value), key, value, "0 (off) to below 1")?;
        }
        require(
            (0.0..=1.0).contains(&self.random_erasing),
            "augment.random_erasing",
            self.random_erasing,
            "0 (off) to 1, a probability",
        )?;
        for (key, value) in [("augment.mixup", self.mixup), ("augment.cutmix", self.cutmix)] {
            require((0.0..=10.0).contains(&value), key, value, "0 (off) to 10, the alpha of Beta(alpha, alpha)")?;
        }
        require(
            (0.0..=1.0).contains(&self.mix_until),
            "augment.mix_until",
            self.mix_until,
            "0 to 1, a fraction of the epochs",
        )?;
        Ok(())
    }
}
