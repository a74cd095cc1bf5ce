//! VGG with batch norm: stages of 3x3 convolutions, then dense layers; see [`VggConfig`].

use anyhow::Result;
use tch::{Tensor, nn};

use super::Mode;
use super::layers::{Convolution, Dense};
use super::tail::NormTail;
use crate::config::VggConfig;

/// Names: `stage1.conv1.weight`, `stage1.norm1.running_mean`, `dense1.weight`, `output.bias`, and so on; all count from 1.
#[derive(Debug)]
pub struct Vgg {
    stages: Vec<Vec<(Convolution, NormTail)>>,
    dense: Vec<Dense>,
    output: Dense,
    dropout: f64,
}

impl Vgg {
    /// Builds it from its config; `seed` fixes the initial weights.
    pub fn new(path: &nn::Path, config: &VggConfig, classes: i64, seed: u64) -> Result<Self> {
        let mut channels = 1;
        let mut stages = Vec::new();
        for (number, &filters) in config.filters.iter().enumerate() {
            let stage = path.sub(format!("stage{}", number + 1));
            let mut layers = Vec::new();
            for index in 1..=config.convolutions {
                let convolution =
                    Convolution::before_norm(&stage.sub(format!("conv{index}")), seed, channels, filters, 3)?;
                layers.push((convolution, NormTail::new(&stage.sub(format!("norm{index}")), filters, true)?));
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

    /// Logits [N, classes] for faces [N, 1, 48, 48].
    pub fn forward(&self, faces: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = faces.shallow_clone();
        for stage in &self.stages {
            for (convolution, norm) in stage {
                x = norm.forward(&convolution.forward(&x)?, None, mode)?;
            }
            x = x.f_max_pool2d(2, 2, 0, 1, false)?;
        }
        x = x.f_flatten(1, -1)?;
        for dense in &self.dense {
            x = dense.forward(&x)?.f_relu()?;
            if mode == Mode::Train && self.dropout > 0.0 {
                x = x.f_dropout(self.dropout, true)?;
            }
        }
        self.output.forward(&x)
    }
}
