//! VGG with batch norm: stages of 3x3 convolutions, then dense layers.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::feature_grid::FeatureGrid;
use super::layers::{BatchNorm, Convolution, Dense, dropout};
use super::norm_act::NormAct;
use super::size_limits::{are_widths, require_parameters};
use super::{Mode, split_at_layer};
use crate::data::images::SIDE;
use crate::util::validate::{InvalidValue, require};

/// The network of a [`VggConfig`].
///
/// Tensor names: `stage1.conv1.weight`, `stage1.norm1.running_mean`, `dense1.weight`,
/// `output.bias`. Numbers start at 1.
#[derive(Debug)]
pub struct Vgg {
    stages: Vec<Stage>,
    dense: Vec<Dense>,
    output: Dense,
    dropout: f64,
}

type Stage = Vec<(Convolution, NormAct)>;

impl Vgg {
    /// Builds the network under `path`, with initial weights from `seed`.
    pub fn new(path: &nn::Path, config: &VggConfig, classes: i64, seed: u64) -> Result<Self> {
        let mut channels = 1;
        let mut stages = Vec::new();
        for (number, &filters) in config.filters.iter().enumerate() {
            let stage = path.sub(format!("stage{}", number + 1));
            let mut layers = Vec::new();
            for index in 1..=config.convolutions {
                let convolution =
                    Convolution::without_bias(&stage.sub(format!("conv{index}")), seed, channels, filters, 3)?;
                layers.push((convolution, NormAct::new(&stage.sub(format!("norm{index}")), filters, true)?));
                channels = filters;
            }
            stages.push(layers);
        }
        let mut width = channels * config.last_side() * config.last_side();
        let mut dense = Vec::new();
        for (number, &units) in config.dense.iter().enumerate() {
            dense.push(Dense::new(&path.sub(format!("dense{}", number + 1)), seed, width, units)?);
            width = units;
        }
        let output = Dense::new(&path.sub("output"), seed, width, classes)?;
        Ok(Self { stages, dense, output, dropout: config.dropout })
    }

    /// The batch norms.
    pub fn batch_norms(&self) -> Vec<&BatchNorm> {
        self.stages.iter().flatten().map(|(_, norm)| norm.normalization()).collect()
    }

    /// Computes logits [N, classes] for images [N, 1, 48, 48].
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head(forward_stages(&self.stages, images.shallow_clone(), mode)?, mode)
    }

    /// Computes the feature map [N, C, H, W] of stage `layer`, from 0, before pooling.
    pub fn features(&self, images: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (before, stage, _) = split_at_layer(&self.stages, layer)?;
        forward_stage(stage, forward_stages(before, images.shallow_clone(), mode)?, mode)
    }

    /// Computes logits [N, classes] from the feature map of stage `layer`.
    pub fn classify(&self, features: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        let (_, _, after) = split_at_layer(&self.stages, layer)?;
        self.head(forward_stages(after, pool(features)?, mode)?, mode)
    }

    /// Computes logits from the output of the last stage.
    fn head(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = x.f_flatten(1, -1)?;
        for dense in &self.dense {
            x = dense.forward(&x)?.f_relu()?;
            x = dropout(x, self.dropout, mode)?;
        }
        self.output.forward(&x)
    }
}

fn forward_stages(stages: &[Stage], x: Tensor, mode: Mode) -> Result<Tensor> {
    stages.iter().try_fold(x, |x, stage| pool(&forward_stage(stage, x, mode)?))
}

/// The convolutions of a stage.
fn forward_stage(stage: &Stage, x: Tensor, mode: Mode) -> Result<Tensor> {
    stage.iter().try_fold(x, |x, (convolution, norm)| norm.forward(&convolution.forward(&x, mode)?, None, mode))
}

fn pool(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_max_pool2d(2, 2, 0, 1, false)?)
}

/// `[model] kind = "vgg"`: stages of 3x3 convolutions, each followed by batch norm and ReLU, with
/// 2x2 max pooling after each stage; then dense layers (Simonyan and Zisserman 2015; with batch
/// norm and sizes for 48x48 as in Khaireddin and Chen 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VggConfig {
    /// Filters of each stage. Each stage halves height and width.
    #[schemars(length(min = 1, max = 5), inner(range(min = 1, max = 4096)))]
    pub filters: Vec<i64>,
    /// Convolutions per stage.
    #[schemars(range(min = 1, max = 8))]
    pub convolutions: usize,
    /// Units of the hidden dense layers, each followed by ReLU; may be empty.
    #[schemars(length(max = 8), inner(range(min = 1, max = 65536)))]
    pub dense: Vec<i64>,
    /// Dropout probability after each hidden dense layer.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Default for VggConfig {
    fn default() -> Self {
        Self { filters: vec![64, 128, 256, 512], convolutions: 2, dense: vec![4096, 4096], dropout: 0.2 }
    }
}

impl VggConfig {
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        let filters = format!("{:?}", self.filters);
        let allowed = "1 to 5 numbers of 1 to 4096";
        require(
            (1..=5).contains(&self.filters.len()) && are_widths(&self.filters, 4096),
            "model.filters",
            filters,
            allowed,
        )?;
        require((1..=8).contains(&self.convolutions), "model.convolutions", self.convolutions, "1 to 8 a stage")?;
        let dense = format!("{:?}", self.dense);
        let allowed = "up to 8 numbers of 1 to 65536";
        require(self.dense.len() <= 8 && are_widths(&self.dense, 65_536), "model.dense", dense, allowed)?;
        require((0.0..1.0).contains(&self.dropout), "model.dropout", self.dropout, "0 to below 1")?;
        require_parameters(self.values(0))
    }

    /// The cells of the feature map of each stage, before pooling.
    pub fn feature_grids(&self) -> Vec<FeatureGrid> {
        let grids = std::iter::successors(Some(FeatureGrid::IMAGE), |grid| Some(grid.pooled()));
        grids.take(self.filters.len()).collect()
    }

    /// Side of the feature map after the last stage in pixels: 1 or more.
    pub fn last_side(&self) -> i64 {
        SIDE as i64 >> self.filters.len()
    }

    /// Number of elements in all parameters and buffers.
    pub fn values(&self, classes: usize) -> u64 {
        let (mut total, mut channels) = (0, 1);
        for filters in self.filters.iter().map(|filters| filters.unsigned_abs()) {
            for _ in 0..self.convolutions {
                // The convolution has no bias; batch norm has four values per filter.
                total += (channels * 9 + 4) * filters;
                channels = filters;
            }
        }
        let mut width = channels * self.last_side().unsigned_abs().pow(2);
        for next in self.dense.iter().map(|dense| dense.unsigned_abs()).chain([classes as u64]) {
            total += (width + 1) * next;
            width = next;
        }
        total
    }

    /// Number of elements of the output of each convolution, batch norm and pooling, per image.
    pub fn activation_sizes(&self) -> impl Iterator<Item = u64> {
        self.filters.iter().enumerate().flat_map(|(stage, filters)| {
            let side = SIDE as u64 >> stage;
            let values = filters.unsigned_abs() * side * side;
            std::iter::repeat_n(values, 2 * self.convolutions).chain([values / 4])
        })
    }
}
