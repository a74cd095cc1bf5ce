//! `calibration.json`: the temperatures of a run's best weights.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::RunDir;
use crate::metrics::FittedTemperature;
use crate::transforms::tta::Tta;
use crate::util::error::input;
use crate::util::files::{read_small_text, write_atomically};

/// Maximum bytes of the file.
const MAX_FILE: u64 = 1 << 16;

/// The temperatures of the best weights, fitted on the validation images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Epoch of the best weights, from 1. The temperature of other weights does not apply.
    pub epoch: u32,
    /// Without test-time augmentation.
    #[serde(flatten)]
    pub plain: FittedTemperature,
    /// With the horizontal flip; absent in runs of earlier versions.
    #[serde(default)]
    pub flip: Option<FittedTemperature>,
    /// With ten crops; absent in runs of earlier versions.
    #[serde(default)]
    pub ten_crop: Option<FittedTemperature>,
}

impl Calibration {
    /// What the logits of each view of `tta` are divided by.
    pub fn temperature(&self, tta: Tta) -> f64 {
        let own = match tta {
            Tta::None => None,
            Tta::Flip => self.flip,
            Tta::TenCrop => self.ten_crop,
        };
        own.unwrap_or(self.plain).temperature
    }
}

impl RunDir {
    /// Writes `calibration.json`.
    ///
    /// # Errors
    /// I/O errors with the path.
    pub fn write_calibration(&self, calibration: &Calibration) -> Result<()> {
        let text = serde_json::to_string_pretty(calibration)? + "\n";
        write_atomically(&self.calibration_json(), text.as_bytes())
    }

    /// Reads the calibration of the weights of `epoch`; `None` if there is none, or it is that of
    /// another epoch, as when a run was killed before its report.
    ///
    /// # Errors
    /// An input error for a corrupt file.
    pub fn read_calibration(&self, epoch: u32) -> Result<Option<Calibration>> {
        let path = self.calibration_json();
        if !path.exists() {
            return Ok(None);
        }
        let text = read_small_text(&path, MAX_FILE, "the calibration of a run")?;
        let corrupt = |problem: String| {
            let path = path.display();
            input(format!("{path}: {problem}; remove it, or pass --no-calibration"))
        };
        let found: Calibration = serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
        for tta in [Tta::None, Tta::Flip, Tta::TenCrop] {
            let temperature = found.temperature(tta);
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(corrupt(format!("temperature is {temperature}; expected a number above 0")));
            }
        }
        Ok((found.epoch == epoch).then_some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_time_augmentation_has_its_temperature_unless_the_run_is_older() {
        let fitted = |temperature| FittedTemperature { temperature, images: 9, ece_before: 0.2, ece_after: 0.1 };
        let all = Calibration { epoch: 3, plain: fitted(1.5), flip: Some(fitted(1.2)), ten_crop: Some(fitted(0.8)) };
        let temperatures = |found: &Calibration| [Tta::None, Tta::Flip, Tta::TenCrop].map(|tta| found.temperature(tta));
        let read: Calibration = serde_json::from_str(&serde_json::to_string(&all).unwrap()).unwrap();
        assert_eq!((read, temperatures(&read)), (all, [1.5, 1.2, 0.8]));
        let older = r#"{"temperature": 1.5, "epoch": 3, "images": 9, "ece_before": 0.2, "ece_after": 0.1}"#;
        assert_eq!(temperatures(&serde_json::from_str(older).unwrap()), [1.5; 3]);
    }
}
