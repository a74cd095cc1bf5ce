//! `[predict]`: how a trained network is used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `[predict]`: how `evaluate`, `predict`, `export` and a sweep's submission use the trained network. Training itself looks
/// at every face as it is, whatever stands here: its figures and the choice of the best epoch do not depend on it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PredictConfig {
    /// Views of each face that probabilities are averaged over.
    pub views: Views,
}

/// `predict.views`: the views of a face that its probabilities are averaged over (test-time augmentation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Views {
    /// The face as it is.
    #[default]
    One,
    /// The face and its mirror image.
    Flip,
    /// Four corners and the centre, 44 of 48 pixels enlarged to 48, each with its mirror image, after torchvision's `TenCrop`.
    TenCrops,
}

impl Views {
    /// What the views are, for reports.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::One => "each face as it is",
            Self::Flip => "probabilities averaged over each face and its mirror image",
            Self::TenCrops => "probabilities averaged over five crops of each face and their mirror images",
        }
    }
}

impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Flip => "flip",
            Self::TenCrops => "ten_crops",
        })
    }
}

impl std::str::FromStr for Views {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "one" => Ok(Self::One),
            "flip" => Ok(Self::Flip),
            "ten_crops" => Ok(Self::TenCrops),
            _ => Err(format!("unknown views {text:?}: expected one, flip or ten_crops")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_toml_have_the_same_names() {
        for views in [Views::One, Views::Flip, Views::TenCrops] {
            assert_eq!(views.to_string().parse(), Ok(views));
            let read: PredictConfig = toml::from_str(&format!("views = \"{views}\"")).unwrap();
            assert_eq!(read.views, views);
        }
        assert_eq!("both".parse::<Views>(), Err("unknown views \"both\": expected one, flip or ten_crops".to_owned()));
        assert_eq!(PredictConfig::default().views, Views::One);
    }
}
