//! Heat maps of the evidence for a class.
//!
//! Both methods take the gradient G of a score of the class with respect to a feature map A, both
//! [C, H, W]. HiResCAM sums A times G over the channels, so a cell has the part of the score that its
//! features account for; with a linear layer behind the map, the cells and a constant add up to the
//! score. Grad-CAM replaces G by its mean over the cells, and may show features that the network does
//! not use there (Draelos and Carin 2020). Negative values are dropped.

mod selection;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::forward::CPU_BATCH;
use crate::data::device_images::{DeviceImages, scale_to_unit};
use crate::data::images::SIDE;
use crate::model::{FeatureGrid, Mode, Net};

pub use selection::Selection;

/// What is differentiated, and how the channels of a feature map are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Method {
    /// Draelos and Carin 2020: each cell by its own gradient, of the logit minus the mean logit of all
    /// classes
    #[default]
    HiresCam,
    /// Selvaraju et al. 2017: a channel by its mean gradient, of the logit alone
    GradCam,
}

impl Method {
    /// The name in the literature.
    pub fn describe(self) -> &'static str {
        match self {
            Self::HiresCam => "HiResCAM",
            Self::GradCam => "Grad-CAM",
        }
    }

    /// The sum of the images' scores, whose gradient weights the features, from logits [N, classes] and
    /// the explained classes, int64 [N, 1].
    fn score(self, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let own = logits.f_take_along_dim(classes, 1)?;
        let scores = match self {
            // Softmax depends on differences of logits only. What raises all logits alike is no evidence.
            Self::HiresCam => own.f_sub(&logits.f_mean_dim(1i64, true, None)?)?,
            // As published, so that results are comparable.
            Self::GradCam => own,
        };
        Ok(scores.f_sum(Kind::Float)?)
    }

    /// The evidence in each cell, [N, H, W], from a feature map and its gradient, each [N, C, H, W].
    fn evidence(self, features: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let weights = match self {
            Self::HiresCam => gradient.shallow_clone(),
            Self::GradCam => gradient.f_mean_dim([2i64, 3].as_slice(), true, None)?,
        };
        Ok(features.f_mul(&weights)?.f_sum_dim_intlist(1, false, Kind::Float)?.f_relu()?)
    }
}

/// A layer of a network, and how its feature map becomes a heat map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explainer {
    /// Index into [`Net::feature_grids`].
    pub layer: usize,
    /// The score and the weights of the channels.
    pub method: Method,
}

/// Where in an image the evidence for a class is.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// 48x48 values, row by row: from 0 to 1, the max of the image, or all 0 if nothing in the image
    /// is evidence for the class.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// The heat map of a feature map's cells, [side, side]. Values that are not finite, of a network
    /// that has diverged, are no evidence.
    fn new(cells: &[f32], grid: &FeatureGrid) -> Self {
        let mut values = grid.upsample(cells);
        let max = values.iter().copied().fold(0.0, f32::max);
        if max > 0.0 && values.iter().all(|value| value.is_finite()) {
            values.iter_mut().for_each(|value| *value /= max);
        } else {
            values.fill(0.0);
        }
        Self { values }
    }

    /// Whether nothing in the image is evidence for the class.
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|value| *value == 0.0)
    }

    /// The mean position of the heat: x and y in pixels, in which the center of the first one is at 0;
    /// none without heat.
    pub fn center(&self) -> Option<(f64, f64)> {
        let mut sums = (0.0, 0.0, 0.0);
        for (place, value) in self.values.iter().enumerate() {
            let value = f64::from(*value);
            sums.0 += value;
            sums.1 += value * (place % SIDE) as f64;
            sums.2 += value * (place / SIDE) as f64;
        }
        let (total, x, y) = sums;
        (total > 0.0).then(|| (x / total, y / total))
    }
}

impl Explainer {
    /// The default method on the last layer.
    pub fn new(net: &Net) -> Self {
        Self { layer: net.feature_grids().len().saturating_sub(1), method: Method::default() }
    }

    /// The evidence for `classes[i]` in image `i`, in float32 and without test-time augmentation.
    ///
    /// # Errors
    /// A layer that the network does not have; as many classes as images are needed.
    pub fn explain(self, net: &Net, images: &DeviceImages, classes: &[u8]) -> Result<Vec<HeatMap>> {
        let grid = net.feature_grids().get(self.layer).context("the network has no such layer")?;
        let mut maps = Vec::new();
        for (part, start) in classes.chunks(CPU_BATCH as usize).zip((0..).step_by(CPU_BATCH as usize)) {
            let pixels = scale_to_unit(&images.slice(start, part.len() as i64)?)?;
            let cells = self.cells(net, &pixels, part)?;
            let cells: Vec<f32> = Vec::try_from(cells.f_to_device(Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?)?;
            maps.extend(cells.chunks(grid.side * grid.side).map(|cells| HeatMap::new(cells, grid)));
        }
        Ok(maps)
    }

    /// The evidence in each cell, [N, side, side], for images [N, 1, 48, 48] in 0..1.
    fn cells(self, net: &Net, pixels: &Tensor, classes: &[u8]) -> Result<Tensor> {
        // A leaf of the graph: no gradient goes further back.
        let features = tch::no_grad(|| net.features(pixels, self.layer, Mode::Inference))?.f_detach()?;
        let features = features.f_set_requires_grad(true)?;
        let logits = net.classify(&features, self.layer, Mode::Inference)?;
        let classes: Vec<i64> = classes.iter().map(|class| i64::from(*class)).collect();
        let classes = Tensor::f_from_slice(&classes)?.f_view([-1, 1])?.f_to_device(net.device())?;
        // No image's logits depend on another image, so this is one backward pass for all.
        let score = self.method.score(&logits, &classes)?;
        let gradient = Tensor::f_run_backward(&[score], &[&features], false, false)?.pop().context("no gradient")?;
        tch::no_grad(|| self.method.evidence(&features, &gradient))
    }
}

#[cfg(test)]
mod tests;
