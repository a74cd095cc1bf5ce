//! `[augment]`: random changes to every training image.

use serde::{Deserialize, Serialize};

use crate::util::validate::require;

/// `[augment]`: random changes to every training image; 0 or false turns one off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Greatest rotation in degrees, either way: 0 to 180.
    pub rotate: f64,
    /// Greatest shift as a fraction of height and width, either way: 0 to 1.
    pub shift: f64,
    /// Greatest zoom, in and out, x and y apart: 0 to below 1.
    pub zoom: f64,
    /// Mirror every second image.
    pub flip: bool,
    /// Greatest share of the area that a random window leaves out, before it is enlarged to the whole: 0 to below 1.
    pub crop: f64,
    /// Greatest change of the brightness factor from 1, either way: 0 to below 1.
    pub brightness: f64,
    /// Greatest change of the contrast factor from 1, either way: 0 to below 1.
    pub contrast: f64,
    /// Greatest gamma exponent less 1; the least is the reciprocal of that exponent: 0 to below 1.
    pub gamma: f64,
    /// Probability that a rectangle of the image is painted over: 0 to 1.
    pub random_erasing: f64,
    /// Images of a step are blended in pairs, the share from Beta(mixup, mixup): 0 to 10.
    pub mixup: f64,
    /// Images of a step get a box of another, its area from Beta(cutmix, cutmix): 0 to 10.
    pub cutmix: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            rotate: 10.0,
            shift: 0.1,
            zoom: 0.1,
            flip: true,
            crop: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            gamma: 0.0,
            random_erasing: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

impl AugmentConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
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
        Ok(())
    }
}
