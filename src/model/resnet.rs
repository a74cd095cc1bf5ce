//! ResNet with squeeze-and-excitation and stochastic depth.

use anyhow::Result;
use tch::{Device, Tensor, nn};

use super::color_input::{ColorInput, InputKind};
use super::layers::{BatchNorm, Convolution, Dense, dropout};
use super::norm_act::{NormAct, SqueezeExcite, channel_means, sample_keeps};
pub use super::resnet_config::{BlockShape, ResnetConfig};
use super::stem_pool::StemPool;
use super::{Mode, split_at_layer};

/// The network of a [`ResnetConfig`].
///
/// Tensor names: `stem.conv.weight`, `stage1.block1.conv1.weight`, `stage1.block1.norm2.bias`,
/// `stage1.block1.gate.squeeze.weight`, `stage2.block1.shortcut.conv.weight`, `output.weight`; with
/// a color input `stem.input.scale` and `stem.input.shift`. Numbers start at 1.
#[derive(Debug)]
pub struct Resnet {
    input: Option<ColorInput>,
    stem: (Convolution, NormAct),
    stem_pool: StemPool,
    stages: Vec<Vec<Block>>,
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
        let input = match config.input {
            InputKind::Gray => None,
            InputKind::Imagenet => Some(ColorInput::imagenet(&stem.sub("input"))?),
        };
        let (channels, kernel) = (config.input.channels(), config.stem_kernel);
        let convolution = Convolution::without_bias(&stem.sub("conv"), seed, channels, config.stem, kernel)?;
        let convolution = convolution.with_stride(config.stem_stride);
        let stem = (convolution, NormAct::new(&stem.sub("norm"), config.stem, true)?);
        let mut stages = Vec::new();
        for (stage, shapes) in (1..).zip(config.stages()) {
            let path = path.sub(format!("stage{stage}"));
            let block = |(block, shape)| Block::new(&path.sub(format!("block{block}")), shape, seed);
            stages.push((1..).zip(shapes).map(block).collect::<Result<_>>()?);
        }
        let width = config.widths.last().copied().unwrap_or(config.stem);
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        let keep = None;
        Ok(Self { input, stem, stem_pool: config.stem_pool, stages, output, dropout: config.dropout, keep })
    }

    /// The batch norms.
    pub fn batch_norms(&self) -> Vec<&BatchNorm> {
        let blocks = self.stages.iter().flatten();
        let layers = blocks.flat_map(|block| [Some(&block.first), Some(&block.second), block.shortcut.as_ref()]);
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
        let x = self.forward_stem(images, mode)?;
        let keeps = match &self.keep {
            Some(keep) if mode == Mode::Train => Some(sample_keeps(keep, images)?),
            _ => None,
        };
        self.head(&forward_blocks(&self.stages, x, keeps.as_ref(), mode)?, mode)
    }

    /// Computes the feature map [N, C, H, W] of stage `layer`, from 0: the output of its last block.
    pub fn features(&self, images: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (before, stage, _) = split_at_layer(&self.stages, layer)?;
        let x = forward_blocks(before, self.forward_stem(images, mode)?, None, mode)?;
        forward_blocks(std::slice::from_ref(stage), x, None, mode)
    }

    /// Computes logits [N, classes] from the feature map of stage `layer`.
    pub fn classify(&self, features: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (_, _, after) = split_at_layer(&self.stages, layer)?;
        self.head(&forward_blocks(after, features.shallow_clone(), None, mode)?, mode)
    }

    fn forward_stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let images = match &self.input {
            Some(input) => input.forward(images)?,
            None => images.shallow_clone(),
        };
        let (convolution, norm) = &self.stem;
        let features = match self.stem_pool {
            StemPool::BeforeNorm => convolution.forward_max_pool(&images, mode)?,
            StemPool::Off | StemPool::AfterRelu => convolution.forward(&images, mode)?,
        };
        let features = norm.forward(&features, None, mode)?;
        if self.stem_pool == StemPool::AfterRelu {
            return Ok(features.f_max_pool2d(3, 2, 1, 1, false)?);
        }
        Ok(features)
    }

    /// Computes logits from the output of the last block.
    fn head(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.output.forward(&dropout(channel_means(x)?, self.dropout, mode)?)
    }
}

/// `keeps`: the factors of stochastic depth of all blocks, if they have been sampled.
fn forward_blocks(stages: &[Vec<Block>], mut x: Tensor, keeps: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
    for (block, number) in stages.iter().flatten().zip(0..) {
        let keep = keeps.map(|keeps| keeps.f_select(0, number)).transpose()?;
        x = block.forward(&x, keep, mode)?;
    }
    Ok(x)
}

impl Block {
    fn new(path: &nn::Path, shape: BlockShape, seed: u64) -> Result<Self> {
        let BlockShape { input, output, pools, stride, squeeze, drop, .. } = shape;
        let convolution = |path: nn::Path, input, kernel| Convolution::without_bias(&path, seed, input, output, kernel);
        let strided = |path, kernel| Ok::<_, anyhow::Error>(convolution(path, input, kernel)?.with_stride(stride));
        let gate = match squeeze {
            0 => None,
            width => Some(SqueezeExcite::new(&path.sub("gate"), seed, output, width)?),
        };
        let shortcut = if shape.has_projection() {
            let path = path.sub("shortcut");
            Some((strided(path.sub("conv"), 1)?, NormAct::new(&path.sub("norm"), output, false)?))
        } else {
            None
        };
        let last = NormAct::new(&path.sub("norm2"), output, true)?.with_gate(gate).with_drop(drop);
        Ok(Self {
            first: (strided(path.sub("conv1"), 3)?, NormAct::new(&path.sub("norm1"), output, true)?),
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
            Some((convolution, norm)) => norm.forward(&convolution.forward(&x, mode)?, None, mode)?,
        };
        let (convolution, norm) = &self.first;
        let y = norm.forward(&convolution.forward(&x, mode)?, None, mode)?;
        let (convolution, norm) = &self.second;
        let y = convolution.forward(&y, mode)?;
        match keep {
            Some(keep) => norm.forward_with(&y, Some(&shortcut), Some(keep), mode),
            None => norm.forward(&y, Some(&shortcut), mode),
        }
    }
}
