//! `[model]`: the networks and what may be said about them.

use serde::{Deserialize, Serialize};

use super::cnn::CnnConfig;
use super::resnet::ResnetConfig;
use super::vgg::VggConfig;
use crate::data::images::SIDE;

/// `[model]`: the network; `kind` names the architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Blocks of convolution, pooling and batch norm, then dense layers.
    Cnn(CnnConfig),
    /// Stages of normalized convolutions, then dense layers.
    Vgg(VggConfig),
    /// Residual blocks with squeeze-and-excitation and stochastic depth.
    Resnet(ResnetConfig),
}

/// Parameters of the largest network: 1 GiB of float32, several times what any network for images has.
pub const MAX_PARAMETERS: u64 = 1 << 28;

impl ModelConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Cnn(cnn) => cnn.check(),
            Self::Vgg(vgg) => vgg.check(),
            Self::Resnet(resnet) => resnet.check(),
        }
    }

    /// Whether the network takes pictures of `side` x `side` pixels; all take 48x48.
    pub fn takes(&self, side: usize) -> bool {
        match self {
            // Their dense layers hang on the picture's size.
            Self::Cnn(_) | Self::Vgg(_) => side == SIDE,
            Self::Resnet(resnet) => resnet.takes(side),
        }
    }

    /// At least the values of all tensors of a network for `classes` classes, statistics of norms among them.
    pub fn values(&self, classes: usize) -> u64 {
        match self {
            Self::Cnn(cnn) => cnn.values(classes),
            Self::Vgg(vgg) => vgg.values(classes),
            Self::Resnet(resnet) => resnet.values(classes),
        }
    }

    /// Values that training keeps of each image for the backward pass, about: the outputs of convolutions and poolings.
    pub fn activations(&self) -> u64 {
        self.layers().sum()
    }

    /// Values of the largest output of a convolution or pooling, for an image.
    pub fn largest_layer(&self) -> u64 {
        self.layers().max().unwrap_or(0)
    }

    /// Values that each convolution, norm and pooling gives for an image, as far as they are kept.
    fn layers(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::Cnn(cnn) => Box::new(cnn.layers()),
            Self::Vgg(vgg) => Box::new(vgg.layers()),
            Self::Resnet(resnet) => Box::new(resnet.layers()),
        }
    }
}

/// Refuses a network of more than [`MAX_PARAMETERS`].
pub(super) fn require_parameters(parameters: u64) -> Result<(), String> {
    if parameters > MAX_PARAMETERS {
        return Err(format!("model: {parameters} parameters; expected at most {MAX_PARAMETERS}"));
    }
    Ok(())
}

/// Whether every number is from 1 to `most`.
pub(super) fn are_widths(values: &[i64], most: i64) -> bool {
    values.iter().all(|value| (1..=most).contains(value))
}

/// Reads `[model]` by itself: unlike the tagged enum, it tells which key is wrong.
pub(crate) fn probe(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("cnn") => serde_path_to_error::deserialize::<_, CnnConfig>(table).map(drop),
        Some("vgg") => serde_path_to_error::deserialize::<_, VggConfig>(table).map(drop),
        Some("resnet") => serde_path_to_error::deserialize::<_, ResnetConfig>(table).map(drop),
        _ => Ok(()),
    }
}
