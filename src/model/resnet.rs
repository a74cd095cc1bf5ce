//! Residual network with squeeze-and-excitation and stochastic depth; see [`ResnetConfig`].

use anyhow::Result;
use tch::{Tensor, nn};

use super::Mode;
use super::layers::{Convolution, Dense};
use super::tail::{NormTail, SqueezeExcite, channel_means};
use crate::config::{BlockShape, ResnetConfig};

/// Names: `stem.conv.weight`, `stage1.block1.conv1.weight`, `stage1.block1.norm2.bias`, `stage1.block1.gate.squeeze.weight`,
/// `stage2.block1.shortcut.conv.weight`, `output.weight`, and so on; stages and blocks count from 1.
#[derive(Debug)]
pub struct Resnet {
    stem: (Convolution, NormTail),
    stem_pool: bool,
    blocks: Vec<Block>,
    output: Dense,
    dropout: f64,
}

#[derive(Debug)]
struct Block {
    first: (Convolution, NormTail),
    second: (Convolution, NormTail),
    shortcut: Option<(Convolution, NormTail)>,
    pools: bool,
}

impl Resnet {
    /// Builds it from its config; `seed` fixes the initial weights.
    pub fn new(path: &nn::Path, config: &ResnetConfig, classes: i64, seed: u64) -> Result<Self> {
        let stem = path.sub("stem");
        let convolution = Convolution::before_norm(&stem.sub("conv"), seed, 1, config.stem, 3)?;
        let stem = (convolution, NormTail::new(&stem.sub("norm"), config.stem, true)?);
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

    /// Logits [N, classes] for faces [N, 1, 48, 48].
    pub fn forward(&self, faces: &Tensor, mode: Mode) -> Result<Tensor> {
        let (convolution, norm) = &self.stem;
        let filtered =
            if self.stem_pool { convolution.forward_max_pool(faces, mode)? } else { convolution.forward(faces)? };
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
            Some((convolution(at.sub("conv"), input, 1)?, NormTail::new(&at.sub("norm"), output, false)?))
        } else {
            None
        };
        let last = NormTail::new(&path.sub("norm2"), output, true)?.with_gate(gate).with_drop(drop);
        Ok(Self {
            first: (convolution(path.sub("conv1"), input, 3)?, NormTail::new(&path.sub("norm1"), output, true)?),
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
