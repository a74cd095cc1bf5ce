//! Residual network with squeeze-and-excitation and stochastic depth; see [`ResnetConfig`].

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::Mode;
use super::config::{are_widths, require_parameters};
use super::layers::{Convolution, Dense};
use super::norm_act::{NormAct, SqueezeExcite, channel_means};
use crate::data::images::SIDE;
use crate::util::validate::require;

/// Names: `stem.conv.weight`, `stage1.block1.conv1.weight`, `stage1.block1.norm2.bias`, `stage1.block1.gate.squeeze.weight`,
/// `stage2.block1.shortcut.conv.weight`, `output.weight`, and so on; stages and blocks count from 1.
#[derive(Debug)]
pub struct Resnet {
    stem: (Convolution, NormAct),
    stem_pool: bool,
    blocks: Vec<Block>,
    output: Dense,
    dropout: f64,
}

#[derive(Debug)]
struct Block {
    first: (Convolution, NormAct),
    second: (Convolution, NormAct),
    shortcut: Option<(Convolution, NormAct)>,
    pools: bool,
}

impl Resnet {
    /// Builds it from its config; `seed` fixes the initial weights.
    pub fn new(path: &nn::Path, config: &ResnetConfig, classes: i64, seed: u64) -> Result<Self> {
        let stem = path.sub("stem");
        let convolution = Convolution::before_norm(&stem.sub("conv"), seed, 1, config.stem, 3)?;
        let stem = (convolution, NormAct::new(&stem.sub("norm"), config.stem, true)?);
        let mut blocks = Vec::new();
        for (stage, shapes) in (1..).zip(config.stages()) {
            for (block, shape) in (1..).zip(shapes) {
                blocks.push(Block::new(&path.sub(format!("stage{stage}")).sub(format!("block{block}")), shape, seed)?);
            }
        }
        let width = config.widths.last().copied().unwrap_or(config.stem);
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        Ok(Self { stem, stem_pool: config.stem_pool, blocks, output, dropout: config.dropout })
    }

    /// Logits [N, classes] for images [N, 1, 48, 48].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (convolution, norm) = &self.stem;
        let filtered =
            if self.stem_pool { convolution.forward_max_pool(images, mode)? } else { convolution.forward(images)? };
        let mut x = norm.forward(&filtered, None, mode)?;
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        x = channel_means(&x)?;
        if mode == Mode::Train && self.dropout > 0.0 {
            x = x.f_dropout(self.dropout, true)?;
        }
        self.output.forward(&x)
    }
}

impl Block {
    fn new(path: &nn::Path, shape: BlockShape, seed: u64) -> Result<Self> {
        let BlockShape { input, output, pools, squeeze, drop, .. } = shape;
        let convolution = |at: nn::Path, input, kernel| Convolution::before_norm(&at, seed, input, output, kernel);
        let gate = match squeeze {
            0 => None,
            width => Some(SqueezeExcite::new(&path.sub("gate"), seed, output, width)?),
        };
        let shortcut = if shape.has_projection() {
            let at = path.sub("shortcut");
            Some((convolution(at.sub("conv"), input, 1)?, NormAct::new(&at.sub("norm"), output, false)?))
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

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = if self.pools { x.f_max_pool2d(2, 2, 0, 1, false)? } else { x.shallow_clone() };
        let shortcut = match &self.shortcut {
            None => x.shallow_clone(),
            Some((convolution, norm)) => norm.forward(&convolution.forward(&x)?, None, mode)?,
        };
        let (convolution, norm) = &self.first;
        let y = norm.forward(&convolution.forward(&x)?, None, mode)?;
        let (convolution, norm) = &self.second;
        norm.forward(&convolution.forward(&y)?, Some(&shortcut), mode)
    }
}

/// `[model] kind = "resnet"`: a 3x3 convolution, then stages of residual blocks of two 3x3 convolutions with batch norm (He et
/// al. 2016), squeeze-and-excitation (Hu et al. 2018) and stochastic depth (Huang et al. 2016), then the mean over the
/// picture and one dense layer. Between stages the picture is halved by 2x2 max-pooling, as in VGG, not by a stride: the
/// first convolution of a stage then works on dense pixels, which is faster. So is the stem where it pools: between its
/// convolution and its norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResnetConfig {
    /// Filters of the first convolution, at 48x48.
    pub stem: i64,
    /// Filters of each stage: 1 to 5 stages. Pooling stands before each but the first.
    pub widths: Vec<i64>,
    /// Blocks of each stage.
    pub blocks: Vec<i64>,
    /// Whether the stem pools, too: then the first stage works at 24x24 instead of 48x48.
    pub stem_pool: bool,
    /// Squeeze-and-excitation squeezes to a stage's width divided by this; 0 leaves it out.
    pub squeeze: i64,
    /// Probability of leaving out the last block's two convolutions for an image in training; it grows from 0 with the depth.
    pub stochastic_depth: f64,
    /// Dropout probability before the dense layer: 0 to below 1.
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

/// One residual block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockShape {
    /// Channels that come in.
    pub input: i64,
    /// Channels that go out.
    pub output: i64,
    /// Whether the picture is halved before it.
    pub pools: bool,
    /// Edge of what goes out.
    pub side: i64,
    /// Width of the squeeze; 0: none.
    pub squeeze: i64,
    /// Probability of leaving it out in training.
    pub drop: f64,
}

impl ResnetConfig {
    pub(super) fn check(&self) -> Result<(), String> {
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

    /// Whether something is left of pictures of `side` x `side` pixels after all poolings.
    pub fn takes(&self, side: usize) -> bool {
        side >> (self.widths.len() - 1 + usize::from(self.stem_pool)) > 0
    }

    /// The residual blocks of each stage.
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
                        // PyTorch's and the paper's linear rule: the last block has the whole probability.
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

    /// Values of all tensors of a network for `classes` classes.
    pub fn values(&self, classes: usize) -> u64 {
        let of = |b: BlockShape| {
            let [input, output, squeeze] = [b.input, b.output, b.squeeze].map(i64::unsigned_abs);
            let gate = if squeeze == 0 { 0 } else { (output + 1) * squeeze + (squeeze + 1) * output };
            let shortcut = if b.has_projection() { (input + 4) * output } else { 0 };
            (9 * input + 4) * output + (9 * output + 4) * output + gate + shortcut
        };
        let width = self.widths.last().map_or(0, |width| width.unsigned_abs());
        let blocks: u64 = self.stages().into_iter().flatten().map(of).sum();
        (9 + 4) * self.stem.unsigned_abs() + blocks + (width + 1) * classes as u64
    }

    /// Values that the convolutions and norms give for an image.
    pub fn layers(&self) -> impl Iterator<Item = u64> {
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
    /// Whether its shortcut is a convolution of its own, since shapes differ.
    pub fn has_projection(&self) -> bool {
        self.input != self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_halve_and_depth_rises_to_the_whole_probability() {
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

    /// torchvision's ResNet-18 has 11,689,512 parameters with a 7x7 stem of 3 channels and 1000 classes:
    /// 11,176,512 in its stages and stem norm, of which 4,800 norms' scales and offsets, and no squeeze-and-excitation.
    #[test]
    fn counts_the_values_of_resnet_18() {
        let config = ResnetConfig {
            stem: 64,
            widths: vec![64, 128, 256, 512],
            blocks: vec![2; 4],
            stem_pool: false,
            squeeze: 0,
            ..ResnetConfig::default()
        };
        // The stem reads one channel through 3x3 instead of three through 7x7; statistics are as many as scales and offsets.
        let torchvision = 11_689_512 - 1000 * 513 - 64 * 3 * 49 + 64 * 9;
        let norms = 2 * (64 * 5 + 128 * 5 + 256 * 5 + 512 * 5);
        assert_eq!(config.values(7), torchvision + 7 * 513 + norms);
    }
}
