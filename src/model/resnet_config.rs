//! `[model] kind = "resnet"`: keys, and the sizes that follow from them.

use serde::{Deserialize, Serialize};

use super::color_input::InputKind;
use super::feature_grid::FeatureGrid;
use super::size_limits::{are_widths, require_parameters};
use super::stem_pool::StemPool;
use crate::data::images::SIDE;
use crate::util::validate::{InvalidValue, require};

/// `[model] kind = "resnet"`: a convolution (the stem), stages of residual blocks of two 3x3
/// convolutions with batch norm (He et al. 2016), squeeze-and-excitation (Hu et al. 2018) and
/// stochastic depth (Huang et al. 2016), then global average pooling and a dense layer.
///
/// By default 2x2 max pooling halves height and width between stages, as in VGG, instead of a
/// stride: convolutions with stride 1 are faster. The stem pools between its convolution and its
/// norm. docs/finetuning.md has the keys of torchvision's ResNet-18 and ResNet-34.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResnetConfig {
    /// What the stem reads.
    pub input: InputKind,
    /// Filters of the stem.
    #[schemars(range(min = 1, max = 4096))]
    pub stem: i64,
    /// Kernel size of the stem; odd.
    #[schemars(range(min = 1, max = 15))]
    pub stem_kernel: i64,
    /// Stride of the stem's convolution.
    #[schemars(range(min = 1, max = 2))]
    pub stem_stride: i64,
    /// Filters of each stage. Height and width are halved before each stage but the first.
    #[schemars(length(min = 1, max = 5), inner(range(min = 1, max = 4096)))]
    pub widths: Vec<i64>,
    /// Residual blocks of each stage; as many values as `widths`.
    #[schemars(length(min = 1, max = 5), inner(range(min = 1, max = 64)))]
    pub blocks: Vec<i64>,
    /// How the stem pools: `true` is 2x2 max pooling between its convolution and its norm, so that
    /// the first stage runs at 24x24 instead of 48x48; `"3x3"` is max pooling with stride 2 after
    /// its ReLU, as in torchvision.
    pub stem_pool: StemPool,
    /// What halves height and width between stages.
    pub downsample: Downsample,
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

/// `model.downsample`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Downsample {
    /// 2x2 max pooling before the first block of a stage.
    #[default]
    Pool,
    /// Stride 2 in the first convolution and in the shortcut of that block, as in torchvision.
    Stride,
}

impl Default for ResnetConfig {
    fn default() -> Self {
        Self {
            input: InputKind::Gray,
            stem: 32,
            stem_kernel: 3,
            stem_stride: 1,
            widths: vec![64, 128, 256],
            blocks: vec![2, 2, 2],
            stem_pool: StemPool::BeforeNorm,
            downsample: Downsample::Pool,
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
    /// Stride of the first convolution and of the shortcut.
    pub stride: i64,
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
        let is_kernel = (1..=15).contains(&self.stem_kernel) && self.stem_kernel % 2 == 1;
        require(is_kernel, "model.stem_kernel", self.stem_kernel, "an odd number, 1 to 15")?;
        require((1..=2).contains(&self.stem_stride), "model.stem_stride", self.stem_stride, "1 or 2")?;
        let widths = format!("{:?}", self.widths);
        let allowed = "1 to 5 numbers of 1 to 4096";
        require(
            (1..=5).contains(&self.widths.len()) && are_widths(&self.widths, 4096),
            "model.widths",
            &widths,
            allowed,
        )?;
        let blocks = format!("{:?}", self.blocks);
        let allowed = "as many numbers of 1 to 64 as model.widths has";
        let fits = self.blocks.len() == self.widths.len() && are_widths(&self.blocks, 64);
        require(fits, "model.blocks", blocks, allowed)?;
        let allowed = "stages that leave a pixel of 48x48: fewer of them, or model.downsample = \"stride\"";
        require(self.takes(SIDE), "model.widths", widths, allowed)?;
        require((0..=4096).contains(&self.squeeze), "model.squeeze", self.squeeze, "0 (none) to 4096")?;
        let depth = self.stochastic_depth;
        require((0.0..1.0).contains(&depth), "model.stochastic_depth", depth, "0 to below 1")?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", self.dropout, "0 to below 1")?;
        require_parameters(self.values(0))
    }

    /// Whether images of `side` x `side` pixels have at least one pixel after all poolings.
    pub fn takes(&self, side: usize) -> bool {
        side > 0 && self.grids(FeatureGrid { side, ..FeatureGrid::IMAGE }).iter().all(|grid| grid.side > 0)
    }

    /// The cells of the feature map of each stage.
    pub fn feature_grids(&self) -> Vec<FeatureGrid> {
        self.grids(FeatureGrid::IMAGE)
    }

    /// The cells of the feature map of each stage for images of `image`.
    fn grids(&self, image: FeatureGrid) -> Vec<FeatureGrid> {
        let stem = image.strided(self.stem_stride);
        let first = match self.stem_pool {
            StemPool::Off => stem,
            StemPool::BeforeNorm => stem.pooled(),
            StemPool::AfterRelu => stem.strided(2),
        };
        let halved = |grid: &FeatureGrid| match self.downsample {
            Downsample::Pool => grid.pooled(),
            Downsample::Stride => grid.strided(2),
        };
        std::iter::successors(Some(first), |grid| Some(halved(grid))).take(self.widths.len()).collect()
    }

    /// Shapes of the residual blocks of each stage.
    pub fn stages(&self) -> Vec<Vec<BlockShape>> {
        let total = self.blocks.iter().sum::<i64>();
        let (mut input, mut number) = (self.stem, 0);
        let stages = self.widths.iter().zip(&self.blocks).zip(self.feature_grids()).enumerate();
        stages
            .map(|(stage, ((&output, &blocks), grid))| {
                (0..blocks)
                    .map(|block| {
                        let halves = block == 0 && stage > 0;
                        let pools = halves && self.downsample == Downsample::Pool;
                        let stride = if halves && !pools { 2 } else { 1 };
                        number += 1;
                        // The paper's linear decay rule.
                        let drop = self.stochastic_depth * number as f64 / total as f64;
                        let squeeze = if self.squeeze == 0 { 0 } else { (output / self.squeeze).max(1) };
                        let shape = BlockShape { input, output, pools, stride, side: grid.side as i64, squeeze, drop };
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
        let colors = self.input.channels().unsigned_abs();
        // The color input has a scale and a shift per channel.
        let input = if self.input == InputKind::Gray { 0 } else { 2 * colors };
        let area = self.stem_kernel.unsigned_abs().pow(2);
        input + (area * colors + 4) * self.stem.unsigned_abs() + blocks + (width + 1) * classes as u64
    }

    /// Number of elements of the output of each convolution, norm and pooling, per image.
    pub fn activation_sizes(&self) -> impl Iterator<Item = u64> {
        let pixels = |grid: FeatureGrid| (grid.side * grid.side) as u64;
        let stem = FeatureGrid::IMAGE.strided(self.stem_stride);
        let filters = self.stem.unsigned_abs();
        let full = filters * pixels(stem);
        let normed = if self.stem_pool == StemPool::BeforeNorm { filters * pixels(stem.pooled()) } else { full };
        let pooled =
            (self.stem_pool == StemPool::AfterRelu).then(|| self.stem.unsigned_abs() * pixels(stem.strided(2)));
        let colors =
            (self.input != InputKind::Gray).then(|| self.input.channels().unsigned_abs() * pixels(FeatureGrid::IMAGE));
        let blocks = self.stages().into_iter().flatten().flat_map(|block| {
            let layers = if block.has_projection() { 6 } else { 4 };
            let pooled = if block.pools { Some(block.input) } else { None };
            let channels = pooled.into_iter().chain(std::iter::repeat_n(block.output, layers));
            channels.map(move |channels| (channels * block.side * block.side).unsigned_abs())
        });
        colors.into_iter().chain([full, normed]).chain(pooled).chain(blocks)
    }

    /// torchvision's ResNet with `blocks` per stage: ResNet-18 with 2, 2, 2, 2, ResNet-34 with 3,
    /// 4, 6, 3.
    #[cfg(test)]
    pub fn torchvision(blocks: &[i64]) -> Self {
        Self {
            input: InputKind::Imagenet,
            stem: 64,
            stem_kernel: 7,
            stem_stride: 2,
            widths: vec![64, 128, 256, 512],
            blocks: blocks.to_vec(),
            stem_pool: StemPool::AfterRelu,
            downsample: Downsample::Stride,
            squeeze: 0,
            ..Self::default()
        }
    }
}

impl BlockShape {
    /// Whether the shortcut has a 1x1 convolution, because the shapes of input and output differ.
    pub fn has_projection(&self) -> bool {
        self.input != self.output || self.stride != 1
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
        assert!(config.takes(8) && !config.takes(7) && !config.takes(0));
        let full = ResnetConfig { stem_pool: StemPool::Off, squeeze: 0, ..config };
        let first = full.stages()[0][0];
        assert_eq!((first.side, first.pools, first.squeeze, first.has_projection()), (48, false, 0, true));
    }

    /// torchvision's ResNets with 1000 classes have 11,689,512 and 21,797,672 parameters.
    #[test]
    fn counts_the_parameters_of_torchvision() {
        for (blocks, parameters, norms) in [([2; 4], 11_689_512, 4800), ([3, 4, 6, 3], 21_797_672, 8512)] {
            let config = ResnetConfig::torchvision(&blocks);
            config.check().unwrap();
            // Mean and variance of each channel of the norms, and the constants of the input.
            assert_eq!(config.values(1000), parameters + 2 * norms + 6);
            let sides: Vec<i64> = config.stages().iter().map(|stage| stage[0].side).collect();
            assert_eq!(sides, [12, 6, 3, 2]);
            let strides: Vec<i64> = config.stages().iter().map(|stage| stage[0].stride).collect();
            assert_eq!(strides, [1, 2, 2, 2]);
            assert!(!config.stages()[0][0].has_projection() && config.stages()[1][0].has_projection());
        }
    }

    #[test]
    fn stages_must_leave_a_pixel() {
        let deep = ResnetConfig { widths: vec![8; 5], blocks: vec![1; 5], ..ResnetConfig::default() };
        deep.check().unwrap();
        let strided = ResnetConfig { stem_stride: 2, ..deep };
        let message = strided.check().unwrap_err().to_string();
        assert!(message.contains("model.widths") && message.contains("model.downsample"), "{message}");
        ResnetConfig { downsample: Downsample::Stride, ..strided.clone() }.check().unwrap();
        let even = ResnetConfig { stem_kernel: 4, ..ResnetConfig::default() };
        assert!(even.check().unwrap_err().to_string().contains("model.stem_kernel = 4"));
    }
}
