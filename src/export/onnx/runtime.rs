//! Runs an ONNX file with rten, a runtime in Rust without libtorch.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use rten::{Model, ModelOptions, Value};

use super::graph::{INPUT, OUTPUT};
use crate::data::images::{Images, PIXELS, SIDE};
use crate::inference::forward::CPU_BATCH;
use crate::metrics::predictions::argmax;

/// A loaded model.
pub struct Runtime {
    model: Model,
}

impl Runtime {
    /// Loads an encoded model.
    ///
    /// # Errors
    /// A model that rten cannot load.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        Ok(Self { model: Model::load(bytes).context("cannot load the exported model")? })
    }

    /// Loads an encoded model and keeps the values between its nodes.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn without_optimization(bytes: Vec<u8>) -> Result<Self> {
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(false);
        Ok(Self { model: options.load(bytes).context("cannot load the exported model")? })
    }

    /// Loads a file.
    ///
    /// # Errors
    /// Like [`new`](Self::new); an I/O error with the path.
    pub fn load(path: &Path) -> Result<Self> {
        Self::new(fs::read(path)?)
    }

    /// Computes the probabilities [N, classes] of pixels [N, 1, 48, 48].
    ///
    /// # Errors
    /// Those of rten.
    pub fn run(&self, pixels: Vec<f32>) -> Result<Vec<f32>> {
        self.values(pixels, &[OUTPUT])?.pop().context("the exported model has no output")
    }

    /// Computes the values of these names for pixels [N, 1, 48, 48], each row-major.
    ///
    /// # Errors
    /// Those of rten.
    pub fn values(&self, pixels: Vec<f32>, names: &[&str]) -> Result<Vec<Vec<f32>>> {
        let shape = [pixels.len() / PIXELS, 1, SIDE, SIDE];
        let pixels = Value::from_shape(shape, pixels).context("the pixels are not images")?;
        let input = self.model.node_id(INPUT)?;
        let outputs = names.iter().map(|name| self.model.node_id(name)).collect::<Result<Vec<_>, _>>()?;
        let values = self.model.run(vec![(input, pixels.into())], &outputs, None)?;
        let data = |value: Value| Ok(value.into_tensor::<f32>().context("a value is not float32")?.into_data());
        values.into_iter().map(data).collect()
    }

    /// The class with the max probability of each image.
    ///
    /// # Errors
    /// Those of rten.
    pub fn predict(&self, images: &Images) -> Result<Vec<u8>> {
        let mut predicted = Vec::new();
        for batch in images.pixels.blocks(CPU_BATCH as usize) {
            let batch = batch?;
            let probabilities = self.run(batch.iter().map(|pixel| f32::from(*pixel)).collect())?;
            let classes = probabilities.len() / (batch.len() / PIXELS).max(1);
            predicted.extend(probabilities.chunks(classes.max(1)).map(|row| argmax(row).0));
        }
        Ok(predicted)
    }
}
