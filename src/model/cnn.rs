//! The notebook's CNN and its relatives: blocks of convolution, activation, pooling and batch norm, then dense layers.
//!
//! With the defaults it is the notebook's network to the letter: 619,463 trainable parameters.

use anyhow::{Context, Result};
use tch::{Tensor, nn};

use super::Mode;
use super::layers::{BatchNorm, Convolution, Dense, KERAS};
use crate::config::{Activation, CnnConfig, Padding, Pooling};

/// Names: `block1.conv.weight`, `block1.conv2.weight` (where a block has two), `block1.norm.running_mean`, `dense1.weight`,
/// `output.bias`, and so on; blocks and dense layers count from 1.
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
    /// Builds it from its config; `seed` fixes the initial weights.
    pub fn new(path: &nn::Path, config: &CnnConfig, classes: i64, seed: u64) -> Result<Self> {
        let padding = if config.padding == Padding::Same { config.kernel / 2 } else { 0 };
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
        let side = config.side_after_blocks().context("the blocks leave no pixel, which the config check refuses")?;
        let mut width = channels * side * side;
        let mut dense = Vec::new();
        for (number, &units) in config.dense.iter().enumerate() {
            dense.push(Dense::new(&path.sub(format!("dense{}", number + 1)), seed, width, units)?);
            width = units;
        }
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        Ok(Self { blocks, dense, output, dropout: config.dropout, activation: config.activation })
    }

    /// Logits [N, classes] for faces [N, 1, 48, 48].
    pub fn forward(&self, faces: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = faces.shallow_clone();
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        // In channel-height-width order, whatever the memory layout.
        x = x.f_flatten(1, -1)?;
        for dense in &self.dense {
            x = self.activation.forward(&dense.forward(&x)?)?;
            if mode == Mode::Train && self.dropout > 0.0 {
                x = x.f_dropout(self.dropout, true)?;
            }
        }
        self.output.forward(&x)
    }
}

impl Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        let Some((last, before)) = self.convolutions.split_last() else { anyhow::bail!("a block has a convolution") };
        for convolution in before {
            x = self.activation.forward(&convolution.forward(&x)?)?;
        }
        let (x, activation) = match self.pooling {
            // Max-pooling commutes with a monotone activation; pooling first makes the activation four times smaller.
            Pooling::Max if self.activation.is_monotone() => (last.forward_max_pool(&x, mode)?, Some(self.activation)),
            Pooling::Max => (self.activation.forward(&last.forward(&x)?)?.f_max_pool2d(2, 2, 0, 1, false)?, None),
            Pooling::Average => {
                (self.activation.forward(&last.forward(&x)?)?.f_avg_pool2d(2, 2, 0, false, true, None)?, None)
            }
        };
        match (&self.norm, activation) {
            (Some(norm), activation) => norm.forward(&x, activation, mode),
            (None, Some(activation)) => activation.forward(&x),
            (None, None) => Ok(x),
        }
    }
}
