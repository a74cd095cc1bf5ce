//! ResNet with squeeze-and-excitation and stochastic depth.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, nn};

use super::Mode;
use super::layers::{BatchNorm, Convolution, Dense, dropout};
use super::norm_act::{NormAct, SqueezeExcite, channel_means, sample_keeps};
use super::size_limits::{are_widths, require_parameters};
use crate::data::images::SIDE;
use crate::util::validate::{InvalidValue, require};

/// The network of a [`ResnetConfig`].
///
/// Tensor names: `stem.conv.weight`, `stage1.block1.conv1.weight`, `stage1.block1.norm2.bias`,
/// `stage1.block1.gate.squeeze.weight`, `stage2.block1.shortcut.conv.weight`, `output.weight`.
/// Numbers start at 1.
#[derive(Debug)]
pub struct Resnet {
    stem: (Convolution, NormAct),
    stem_pool: bool,
    blocks: Vec<Block>,
    output: Dense,
    dropout: f64,
    /// Probability of each block not to be dropped, float32 [blocks, 1] on the device of the
    /// network; only if it is a GPU and there is stochastic depth.
    keep: Option<Tensor>,
}

#[derive(Debug)]
struct Block {
    first: (Convolution, NormAct),
    second: (Convolution, NormAct),
    shortcut: Option<(Convolution, NormAct)>,
    pools: bool,
}

impl Resnet {
    /// Builds the network under `path`, with initial weights from `seed`.
    pub fn new(path: &nn::Path, config: &ResnetConfig, classes: i64, seed: u64) -> Result<Self> {
        let stem = path.sub("stem");
        let convolution = Convolution::without_bias(&stem.sub("conv"), seed, 1, config.stem, 3)?;
        let stem = (convolution, NormAct::new(&stem.sub("norm"), config.stem, true)?);
        let mut blocks = Vec::new();
        for (stage, shapes) in (1..).zip(config.stages()) {
            for (block, shape) in (1..).zip(shapes) {
                blocks.push(Block::new(&path.sub(format!("stage{stage}")).sub(format!("block{block}")), shape, seed)?);
            }
        }
        let width = config.widths.last().copied().unwrap_or(config.stem);
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        let keep = None;
        Ok(Self { stem, stem_pool: config.stem_pool, blocks, output, dropout: config.dropout, keep })
    }

    /// The batch norms.
    pub fn batch_norms(&self) -> Vec<&BatchNorm> {
        let layers =
            self.blocks.iter().flat_map(|block| [Some(&block.first), Some(&block.second), block.shortcut.as_ref()]);
        [Some(&self.stem)].into_iter().chain(layers).flatten().map(|(_, norm)| norm.normalization()).collect()
    }

    /// Prepares stochastic depth on a GPU: the factors of all blocks are sampled at once.
    pub fn place(&mut self, config: &ResnetConfig, device: Device) -> Result<()> {
        if device.is_cuda() && config.stochastic_depth > 0.0 {
            let keep: Vec<f32> = config.stages().iter().flatten().map(|block| (1.0 - block.drop) as f32).collect();
            self.keep = Some(Tensor::f_from_slice(&keep)?.f_view([-1, 1])?.f_to_device(device)?);
        }
        Ok(())
    }

    /// Computes logits [N, classes] for images [N, 1, side, side].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (convolution, norm) = &self.stem;
        let features =
            if self.stem_pool { convolution.forward_max_pool(images, mode)? } else { convolution.forward(images)? };
        let mut x = norm.forward(&features, None, mode)?;
        let keeps = match &self.keep {
            Some(keep) if mode == Mode::Train => Some(sample_keeps(keep, images)?),
            _ => None,
        };
        for (block, number) in self.blocks.iter().zip(0..) {
            let keep = keeps.as_ref().map(|keeps| keeps.f_select(0, number)).transpose()?;
            x = block.forward(&x, keep, mode)?;
        }
        x = channel_means(&x)?;
        x = dropout(x, self.dropout, mode)?;
        self.output.forward(&x)
    }
}

impl Block {
    fn new(path: &nn::Path, shape: BlockShape, seed: u64) -> Result<Self> {
        let BlockShape { input, output, pools, squeeze, drop, .. } = shape;
        let convolution = |path: nn::Path, input, kernel| Convolution::without_bias(&path, seed, input, output, kernel);
        let gate = match squeeze {
            0 => None,
            width => Some(SqueezeExcite::new(&path.sub("gate"), seed, output, width)?),
        };
        let shortcut = if shape.has_projection() {
            let path = path.sub("shortcut");
            Some((convolution(path.sub("conv"), input, 1)?, NormAct::new(&path.sub("norm"), output, false)?))
        } else {
            None
        };
        let last = NormAct::new(&path.sub("norm2"), output, true)?.with_gate(gate).with_drop(drop);
        Ok(Self {
            first: (convolution(path.sub("conv1"), input, 3)?, NormAct::new(&path.sub("norm1"), output, true)?),
            second: (convolution(path.sub("conv2"), output, 3)?, last),
            shortcut,
            pools,
        })
    }

    /// `keep`: the factors of stochastic depth, if they have been sampled.
    fn forward(&self, x: &Tensor, keep: Option<Tensor>, mode: Mode) -> Result<Tensor> {
        let x = if self.pools { x.f_max_pool2d(2, 2, 0, 1, false)? } else { x.shallow_clone() };
        let shortcut = match &self.shortcut {
            None => x.shallow_clone(),
            Some((convolution, norm)) => norm.forward(&convolution.forward(&x)?, None, mode)?,
        };
        let (convolution, norm) = &self.first;
        let y = norm.forward(&convolution.forward(&x)?, None, mode)?;
        let (convolution, norm) = &self.second;
        let y = convolution.forward(&y)?;
        match keep {
            Some(keep) => norm.forward_with(&y, Some(&shortcut), Some(keep), mode),
            None => norm.forward(&y, Some(&shortcut), mode),
        }
    }
}

/// `[model] kind = "resnet"`: a 3x3 convolution (the stem), stages of residual blocks of two 3x3
/// convolutions with batch norm (He et al. 2016), squeeze-and-excitation (Hu et al. 2018) and
/// stochastic depth (Huang et al. 2016), then global average pooling and a dense layer.
///
/// 2x2 max pooling halves height and width between stages, as in VGG, instead of a stride:
/// convolutions with stride 1 are faster. The stem pools between its convolution and its norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResnetConfig {
    /// Filters of the stem.
    #[schemars(range(min = 1, max = 4096))]
    pub stem: i64,
    /// Filters of each stage. Pooling precedes each stage but the first.
    #[schemars(length(min = 1, max = 5), inner(range(min = 1, max = 4096)))]
    pub widths: Vec<i64>,
    /// Residual blocks of each stage; as many values as `widths`.
    #[schemars(length(min = 1, max = 5), inner(range(min = 1, max = 64)))]
    pub blocks: Vec<i64>,
    /// Whether the stem pools, so that the first stage runs at 24x24 instead of 48x48.
    pub stem_pool: bool,
    /// Reduction ratio of squeeze-and-excitation; 0 is none.
    #[schemars(range(min = 0, max = 4096))]
    pub squeeze: i64,
    /// Probability of stochastic depth at the last block; it grows linearly with depth.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub stochastic_depth: f64,
    /// Dropout probability before the dense layer.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Default for ResnetConfig {
    fn default() -> Self {
        Self {
            stem: 32,
            widths: vec![64, 128, 256],
            blocks: vec![2, 2, 2],
            stem_pool: true,
            squeeze: 16,
            stochastic_depth: 0.0,
            dropout: 0.0,
        }
    }
}

/// Shape of a residual block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Input channels.
    pub input: i64,
    /// Output channels.
    pub output: i64,
    /// Whether 2x2 max pooling precedes the block.
    pub pools: bool,
    /// Side of the output in pixels, for 48x48 images.
    pub side: i64,
    /// Units of the squeeze layer; 0 without squeeze-and-excitation.
    pub squeeze: i64,
    /// Probability of stochastic depth: that an image skips the residual branch in training.
    pub drop: f64,
}

impl ResnetConfig {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        require((1..=4096).contains(&self.stem), "model.stem", self.stem, "1 to 4096")?;
        let widths = format!("{:?}", self.widths);
        let allowed = "1 to 5 numbers of 1 to 4096";
        require(
            (1..=5).contains(&self.widths.len()) && are_widths(&self.widths, 4096),
            "model.widths",
            widths,
            allowed,
        )?;
        let blocks = format!("{:?}", self.blocks);
        let allowed = "as many numbers of 1 to 64 as model.widths has";
        let fits = self.blocks.len() == self.widths.len() && are_widths(&self.blocks, 64);
        require(fits, "model.blocks", blocks, allowed)?;
        require((0..=4096).contains(&self.squeeze), "model.squeeze", self.squeeze, "0 (none) to 4096")?;
        let depth = self.stochastic_depth;
        require((0.0..1.0).contains(&depth), "model.stochastic_depth", depth, "0 to below 1")?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", self.dropout, "0 to below 1")?;
        require_parameters(self.values(0))
    }

    /// Whether images of `side` x `side` pixels have at least one pixel after all poolings.
    pub fn takes(&self, side: usize) -> bool {
        side >> (self.widths.len() - 1 + usize::from(self.stem_pool)) > 0
    }

    /// Shapes of the residual blocks of each stage.
    pub fn stages(&self) -> Vec<Vec<BlockShape>> {
        let total = self.blocks.iter().sum::<i64>();
        let mut side = if self.stem_pool { SIDE as i64 / 2 } else { SIDE as i64 };
        let (mut input, mut number) = (self.stem, 0);
        let stages = self.widths.iter().zip(&self.blocks).enumerate();
        stages
            .map(|(stage, (&output, &blocks))| {
                (0..blocks)
                    .map(|block| {
                        let pools = block == 0 && stage > 0;
                        side /= if pools { 2 } else { 1 };
                        number += 1;
                        // The paper's linear decay rule.
                        let drop = self.stochastic_depth * number as f64 / total as f64;
                        let squeeze = if self.squeeze == 0 { 0 } else { (output / self.squeeze).max(1) };
                        let shape = BlockShape { input, output, pools, side, squeeze, drop };
                        input = output;
                        shape
                    })
                    .collect()
            })
            .collect()
    }

    /// Number of elements in all parameters and buffers.
    pub fn values(&self, classes: usize) -> u64 {
        let block_values = |b: BlockShape| {
            let [input, output, squeeze] = [b.input, b.output, b.squeeze].map(i64::unsigned_abs);
            let gate = if squeeze == 0 { 0 } else { (output + 1) * squeeze + (squeeze + 1) * output };
            let shortcut = if b.has_projection() { (input + 4) * output } else { 0 };
            (9 * input + 4) * output + (9 * output + 4) * output + gate + shortcut
        };
        let width = self.widths.last().map_or(0, |width| width.unsigned_abs());
        let blocks: u64 = self.stages().into_iter().flatten().map(block_values).sum();
        (9 + 4) * self.stem.unsigned_abs() + blocks + (width + 1) * classes as u64
    }

    /// Number of elements of the output of each convolution, norm and pooling, per image.
    pub fn activation_sizes(&self) -> impl Iterator<Item = u64> {
        let full = self.stem.unsigned_abs() * (SIDE * SIDE) as u64;
        let normed = if self.stem_pool { full / 4 } else { full };
        let blocks = self.stages().into_iter().flatten().flat_map(|block| {
            let layers = if block.has_projection() { 6 } else { 4 };
            let pooled = if block.pools { Some(block.input) } else { None };
            let channels = pooled.into_iter().chain(std::iter::repeat_n(block.output, layers));
            channels.map(move |channels| (channels * block.side * block.side).unsigned_abs())
        });
        [full, normed].into_iter().chain(blocks)
    }
}

impl BlockShape {
    /// Whether the shortcut has a 1x1 convolution, because the numbers of channels differ.
    pub fn has_projection(&self) -> bool {
        self.input != self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_halve_and_stochastic_depth_grows_linearly() {
        let config = ResnetConfig { stochastic_depth: 0.3, blocks: vec![1, 2, 3], ..ResnetConfig::default() };
        let stages = config.stages();
        assert_eq!(stages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 3]);
        let all: Vec<BlockShape> = stages.into_iter().flatten().collect();
        assert_eq!(all.iter().map(|block| block.side).collect::<Vec<_>>(), [24, 12, 12, 6, 6, 6]);
        assert_eq!(all.iter().map(|block| block.pools).collect::<Vec<_>>(), [false, true, false, true, false, false]);
        assert!((all[0].drop - 0.05).abs() < 1e-12 && (all[5].drop - 0.3).abs() < 1e-12);
        assert!(config.takes(8) && !config.takes(7));
        let full = ResnetConfig { stem_pool: false, squeeze: 0, ..config };
        let first = full.stages()[0][0];
        assert_eq!((first.side, first.pools, first.squeeze, first.has_projection()), (48, false, 0, true));
    }

    /// torchvision's ResNet-18 has 11,689,512 parameters, with a 7x7 stem of 3 channels, 1000
    /// classes and no squeeze-and-excitation.
    #[test]
    fn counts_the_parameters_of_resnet_18() {
        let config = ResnetConfig {
            stem: 64,
            widths: vec![64, 128, 256, 512],
            blocks: vec![2; 4],
            stem_pool: false,
            squeeze: 0,
            ..ResnetConfig::default()
        };
        // A 3x3 stem of 1 channel instead of 7x7 of 3 channels.
        let without_output = 11_689_512 - 1000 * 513 - 64 * 3 * 49 + 64 * 9;
        // Running statistics: as many as weights and biases of the norms.
        let statistics = 2 * (64 * 5 + 128 * 5 + 256 * 5 + 512 * 5);
        assert_eq!(config.values(7), without_output + 7 * 513 + statistics);
    }
}
