//! `[model]`: the choice of architecture, and the sizes of a network.

use serde::{Deserialize, Serialize};

use super::cnn::CnnConfig;
use super::feature_grid::FeatureGrid;
use super::resnet::ResnetConfig;
use super::vgg::VggConfig;
use crate::data::images::SIDE;
use crate::util::validate::InvalidValue;

/// `[model]`: the architecture, chosen by `kind`, and its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// `cnn`: blocks of convolution, pooling, batch norm, then dense layers; by default the
    /// notebook's CNN.
    Cnn(CnnConfig),
    /// `vgg`: stages of convolutions with batch norm, then dense layers.
    Vgg(VggConfig),
    /// `resnet`: residual blocks with squeeze-and-excitation and stochastic depth.
    Resnet(ResnetConfig),
}

impl ModelConfig {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        match self {
            Self::Cnn(cnn) => cnn.check(),
            Self::Vgg(vgg) => vgg.check(),
            Self::Resnet(resnet) => resnet.check(),
        }
    }

    /// Whether the network accepts images of `side` x `side` pixels. All architectures accept
    /// 48x48.
    pub fn takes(&self, side: usize) -> bool {
        match self {
            // The first dense layer fixes the image size.
            Self::Cnn(_) | Self::Vgg(_) => side == SIDE,
            Self::Resnet(resnet) => resnet.takes(side),
        }
    }

    /// The cells of the feature map of each layer that explains a prediction: the last one of a block
    /// or stage.
    pub fn feature_grids(&self) -> Vec<FeatureGrid> {
        match self {
            Self::Cnn(cnn) => cnn.feature_grids(),
            Self::Vgg(vgg) => vgg.feature_grids(),
            Self::Resnet(resnet) => resnet.feature_grids(),
        }
    }

    /// Upper bound of the number of elements in the parameters and buffers of a network with
    /// `classes` classes.
    pub fn values(&self, classes: usize) -> u64 {
        match self {
            Self::Cnn(cnn) => cnn.values(classes),
            Self::Vgg(vgg) => vgg.values(classes),
            Self::Resnet(resnet) => resnet.values(classes),
        }
    }

    /// Approximate number of activations per image that training keeps for the backward pass.
    pub fn activations(&self) -> u64 {
        self.activation_sizes().sum()
    }

    /// Number of elements of the largest activation, per image.
    pub fn largest_activation(&self) -> u64 {
        self.activation_sizes().max().unwrap_or(0)
    }

    /// Number of elements of each activation kept for the backward pass, per image.
    fn activation_sizes(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::Cnn(cnn) => Box::new(cnn.activation_sizes()),
            Self::Vgg(vgg) => Box::new(vgg.activation_sizes()),
            Self::Resnet(resnet) => Box::new(resnet.activation_sizes()),
        }
    }
}

/// Deserializes `[model]` as the struct of its `kind`, whose errors name the key; those of a tagged
/// enum do not.
pub(crate) fn probe(mut table: toml::Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>> {
    match table.remove("kind").as_ref().and_then(toml::Value::as_str) {
        Some("cnn") => serde_path_to_error::deserialize::<_, CnnConfig>(table).map(drop),
        Some("vgg") => serde_path_to_error::deserialize::<_, VggConfig>(table).map(drop),
        Some("resnet") => serde_path_to_error::deserialize::<_, ResnetConfig>(table).map(drop),
        _ => Ok(()),
    }
}
