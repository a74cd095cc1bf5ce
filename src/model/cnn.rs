//! CNN of blocks of convolution, activation, pooling and batch norm, then dense layers.
//!
//! The defaults of [`CnnConfig`] are the notebook's network with 619,463 trainable parameters.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::feature_grid::FeatureGrid;
use super::layers::{Activation, BatchNorm, Convolution, Dense, KERAS, dropout};
use super::size_limits::{are_widths, require_parameters};
use super::{Mode, split_at_layer};
use crate::data::images::SIDE;
use crate::util::validate::{InvalidValue, require};

/// The network of a [`CnnConfig`].
///
/// Tensor names: `block1.conv.weight`, `block1.conv2.weight` (second convolution of a block),
/// `block1.norm.running_mean`, `dense1.weight`, `output.bias`. Numbers start at 1.
#[derive(Debug)]
pub struct Cnn {
    blocks: Vec<Block>,
    dense: Vec<Dense>,
    output: Dense,
    dropout: f64,
    activation: Activation,
}

#[derive(Debug)]
struct Block {
    convolutions: Vec<Convolution>,
    norm: Option<BatchNorm>,
    pooling: Pooling,
    activation: Activation,
}

impl Cnn {
    /// Builds the network under `path`, with initial weights from `seed`.
    pub fn new(path: &nn::Path, config: &CnnConfig, classes: i64, seed: u64) -> Result<Self> {
        let padding = config.padding_width();
        let mut channels = 1;
        let mut blocks = Vec::new();
        for (number, &filters) in config.filters.iter().enumerate() {
            let block = path.sub(format!("block{}", number + 1));
            let mut convolutions = Vec::new();
            for index in 1..=config.convolutions {
                let name = if index == 1 { "conv".to_owned() } else { format!("conv{index}") };
                convolutions.push(Convolution::new(&block.sub(name), seed, channels, filters, config.kernel, padding)?);
                channels = filters;
            }
            let norm =
                if config.normalization { Some(BatchNorm::new(&block.sub("norm"), filters, KERAS)?) } else { None };
            blocks.push(Block { convolutions, norm, pooling: config.pooling, activation: config.activation });
        }
        let side = config.side_after_blocks().context("the blocks leave no pixels; the config was not checked")?;
        let mut width = channels * side * side;
        let mut dense = Vec::new();
        for (number, &units) in config.dense.iter().enumerate() {
            dense.push(Dense::new(&path.sub(format!("dense{}", number + 1)), seed, width, units)?);
            width = units;
        }
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        Ok(Self { blocks, dense, output, dropout: config.dropout, activation: config.activation })
    }

    /// The batch norms.
    pub fn batch_norms(&self) -> Vec<&BatchNorm> {
        self.blocks.iter().filter_map(|block| block.norm.as_ref()).collect()
    }

    /// Computes logits [N, classes] for images [N, 1, 48, 48].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head(&forward_blocks(&self.blocks, images, mode)?, mode)
    }

    /// Computes the feature map [N, C, H, W] of block `layer`, from 0: the activations of its last
    /// convolution, before pooling.
    pub fn features(&self, images: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (before, block, _) = split_at_layer(&self.blocks, layer)?;
        block.features(&forward_blocks(before, images, mode)?, mode)
    }

    /// Computes logits [N, classes] from the feature map of block `layer`.
    pub fn classify(&self, features: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (_, block, after) = split_at_layer(&self.blocks, layer)?;
        self.head(&forward_blocks(after, &block.finish(features, mode)?, mode)?, mode)
    }

    /// Computes logits from the output of the last block.
    fn head(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        // Channels, rows, columns in any memory format.
        let mut x = x.f_flatten(1, -1)?;
        for dense in &self.dense {
            x = self.activation.forward(&dense.forward(&x)?)?;
            x = dropout(x, self.dropout, mode)?;
        }
        self.output.forward(&x)
    }
}

fn forward_blocks(blocks: &[Block], x: &Tensor, mode: Mode) -> Result<Tensor> {
    blocks.iter().try_fold(x.shallow_clone(), |x, block| block.forward(&x, mode))
}

impl Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if self.pooling == Pooling::Max && self.activation.is_monotone() {
            // Max pooling commutes with a monotone activation, which then has a quarter of the
            // elements.
            let (last, x) = self.before_last(x, mode)?;
            return self.normalize(&last.forward_max_pool(&x, mode)?, Some(self.activation), mode);
        }
        self.finish(&self.features(x, mode)?, mode)
    }

    /// The last convolution, and its input.
    fn before_last(&self, x: &Tensor, mode: Mode) -> Result<(&Convolution, Tensor)> {
        let (last, before) = self.convolutions.split_last().context("a block has no convolution")?;
        let activate = |x: Tensor, convolution: &Convolution| self.activation.forward(&convolution.forward(&x, mode)?);
        Ok((last, before.iter().try_fold(x.shallow_clone(), activate)?))
    }

    /// The activations of the last convolution.
    fn features(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (last, x) = self.before_last(x, mode)?;
        self.activation.forward(&last.forward(&x, mode)?)
    }

    /// Pooling and norm, after [`features`](Self::features).
    fn finish(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        let pooled = match self.pooling {
            Pooling::Max => features.f_max_pool2d(2, 2, 0, 1, false)?,
            Pooling::Average => features.f_avg_pool2d(2, 2, 0, false, true, None)?,
        };
        self.normalize(&pooled, None, mode)
    }

    fn normalize(&self, x: &Tensor, activation: Option<Activation>, mode: Mode) -> Result<Tensor> {
        match (&self.norm, activation) {
            (Some(norm), activation) => norm.forward(x, activation, mode),
            (None, Some(activation)) => activation.forward(x),
            (None, None) => Ok(x.shallow_clone()),
        }
    }
}

/// `[model] kind = "cnn"`. The blocks must leave at least one pixel of 48x48.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CnnConfig {
    /// Filters of each block.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 4096)))]
    pub filters: Vec<i64>,
    /// Convolutions per block.
    #[schemars(range(min = 1, max = 8))]
    pub convolutions: usize,
    /// Kernel size; odd.
    #[schemars(range(min = 1, max = 15))]
    pub kernel: i64,
    /// Padding of the convolutions.
    pub padding: Padding,
    /// Pooling that halves height and width in each block.
    pub pooling: Pooling,
    /// Whether each block ends in batch norm.
    pub normalization: bool,
    /// Units of the hidden dense layers; may be empty.
    #[schemars(length(max = 8), inner(range(min = 1, max = 65536)))]
    pub dense: Vec<i64>,
    /// Dropout probability after each hidden dense layer.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Activation after each convolution and each hidden dense layer.
    pub activation: Activation,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self {
            filters: vec![32, 64, 128],
            convolutions: 1,
            kernel: 3,
            padding: Padding::Valid,
            pooling: Pooling::Max,
            normalization: true,
            dense: vec![256],
            dropout: 0.5,
            activation: Activation::Relu,
        }
    }
}

/// Padding of convolutions, as in Keras.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// No padding: each convolution reduces height and width by kernel - 1.
    Valid,
    /// Zero padding that keeps height and width.
    Same,
}

/// 2x2 pooling with stride 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Max pooling.
    Max,
    /// Average pooling.
    Average,
}

impl CnnConfig {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        let filters = format!("{:?}", self.filters);
        require(
            (1..=8).contains(&self.filters.len()) && are_widths(&self.filters, 4096),
            "model.filters",
            filters,
            "1 to 8 numbers of 1 to 4096",
        )?;
        require((1..=8).contains(&self.convolutions), "model.convolutions", self.convolutions, "1 to 8 a block")?;
        require(
            (1..=15).contains(&self.kernel) && self.kernel % 2 == 1,
            "model.kernel",
            self.kernel,
            "an odd number, 1 to 15",
        )?;
        let dense = format!("{:?}", self.dense);
        require(
            self.dense.len() <= 8 && are_widths(&self.dense, 65536),
            "model.dense",
            dense,
            "up to 8 numbers of 1 to 65536",
        )?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", self.dropout, "0 to below 1")?;
        if self.side_after_blocks().is_none() {
            let shape =
                format!("{} blocks of {} convolutions, kernel {}", self.filters.len(), self.convolutions, self.kernel);
            let advice =
                "blocks that leave at least one pixel of 48x48: fewer blocks, a smaller kernel, or padding = \"same\"";
            return require(false, "model.filters", shape, advice);
        }
        require_parameters(self.parameters())
    }

    /// Upper bound of the number of elements in all parameters and buffers.
    pub fn values(&self, classes: usize) -> u64 {
        let norms: u64 = self.filters.iter().map(|filters| 4 * filters.unsigned_abs()).sum();
        let side = self.side_after_blocks().unwrap_or(0).unsigned_abs();
        let flat = self.filters.last().map_or(0, |filters| filters.unsigned_abs()) * side * side;
        let width = self.dense.last().map_or(flat, |width| width.unsigned_abs());
        self.parameters() + norms + (width + 1) * classes as u64
    }

    /// Number of parameters of convolutions and hidden dense layers. Batch norms and the output
    /// layer, which are small, are left out.
    fn parameters(&self) -> u64 {
        let (mut total, mut channels) = (0, 1);
        for filters in self.filters.iter().map(|filters| filters.unsigned_abs()) {
            for _ in 0..self.convolutions {
                total += (channels * self.kernel.unsigned_abs().pow(2) + 1) * filters;
                channels = filters;
            }
        }
        let mut width = channels * self.side_after_blocks().unwrap_or(0).unsigned_abs().pow(2);
        for next in self.dense.iter().map(|dense| dense.unsigned_abs()) {
            total += (width + 1) * next;
            width = next;
        }
        total
    }

    /// Number of elements of the output of each convolution and pooling, per image.
    pub fn activation_sizes(&self) -> impl Iterator<Item = u64> {
        let border = if self.padding == Padding::Valid { self.kernel - 1 } else { 0 };
        let mut side = SIDE as i64;
        self.filters.iter().flat_map(move |filters| {
            let mut sides = Vec::new();
            for _ in 0..self.convolutions {
                side -= border;
                sides.push(side);
            }
            side /= 2;
            sides.push(side);
            sides.into_iter().map(move |side| (filters * side * side).unsigned_abs())
        })
    }

    /// Padding on each side in pixels.
    fn padding_width(&self) -> i64 {
        if self.padding == Padding::Same { self.kernel / 2 } else { 0 }
    }

    /// The cells of the feature map of each block, before pooling.
    pub fn feature_grids(&self) -> Vec<FeatureGrid> {
        let mut input = FeatureGrid::IMAGE;
        let mut next = || {
            let convolve = |grid: FeatureGrid, _| grid.convolved(self.kernel, self.padding_width());
            let grid = (0..self.convolutions).fold(input, convolve);
            input = grid.pooled();
            grid
        };
        self.filters.iter().map(|_| next()).collect()
    }

    /// Side of the feature map after the last block in pixels; `None` if a block leaves no pixels.
    pub fn side_after_blocks(&self) -> Option<i64> {
        let border = if self.padding == Padding::Valid { (self.kernel - 1) * self.convolutions as i64 } else { 0 };
        self.filters.iter().try_fold(SIDE as i64, |side, _| Some((side - border).max(0) / 2).filter(|side| *side > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notebooks_cnn_ends_at_four_by_four() {
        assert_eq!(CnnConfig::default().side_after_blocks(), Some(4));
        let deep = CnnConfig { filters: vec![8; 6], ..CnnConfig::default() };
        assert_eq!(deep.side_after_blocks(), None);
        let same = CnnConfig { filters: vec![8; 5], padding: Padding::Same, ..CnnConfig::default() };
        assert_eq!(same.side_after_blocks(), Some(1));
    }

    #[test]
    fn huge_networks_are_refused_before_allocation() {
        let notebook = CnnConfig::default();
        // Keras' 619,463 without batch norms (2 x 224) and the output layer (256 x 7 + 7).
        assert_eq!(notebook.parameters(), 619_463 - 448 - 1799);
        // Keras' trainable parameters and the running statistics.
        assert_eq!(notebook.values(7), 619_463 + 448);
        assert_eq!(
            notebook.activation_sizes().sum::<u64>(),
            32 * (46 * 46 + 23 * 23) + 64 * (21 * 21 + 10 * 10) + 128 * (8 * 8 + 4 * 4)
        );
        let huge = CnnConfig { filters: vec![4096; 4], dense: vec![65536; 8], convolutions: 1, ..notebook };
        let message = huge.check().unwrap_err().to_string();
        assert!(message.contains("parameters is not allowed: expected at most 268435456"), "{message}");
    }
}
