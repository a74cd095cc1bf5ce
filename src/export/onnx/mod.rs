//! Export to ONNX: a self-contained graph that takes raw pixels.
//!
//! The network is traced as for TorchScript, and each of libtorch's operations becomes nodes. So
//! the graph follows the code of the network, and a new architecture needs nothing here unless it
//! has a new operation.

mod activation_ranges;
mod fold;
mod graph;
mod operators;
pub mod proto;
mod quantize;
mod runtime;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::exported_model::ExportedModel;
use super::verification::{CHECKED_IMAGES, MAX_BATCH, Verification};
use crate::data::images::{Images, SIDE};
use crate::metrics::predictions::argmax;
use graph::{Graph, OPSET};
use runtime::Runtime;

pub use activation_ranges::{Int8Calibration, Quantization};

/// Name of the description in the file's `metadata_props`.
const METADATA_KEY: &str = "model.json";

/// Batches of the verification: first image, size, dtype.
const BATCHES: [(usize, usize, Kind); 4] =
    [(0, 1, Kind::Float), (1, 7, Kind::Float), (0, CHECKED_IMAGES, Kind::Float), (0, MAX_BATCH, Kind::Float)];

/// Writes `model` to the file `path` and compares the file, run by rten, with the networks. Returns
/// the max difference of a probability.
///
/// The graph takes pixels float32 [N, 1, 48, 48] in 0..255 and returns probabilities float32 [N,
/// classes]. Its initializers have the names of the checkpoint. `description` goes into the file.
///
/// # Errors
/// An operation without a translation; a file that disagrees with the networks; I/O errors.
pub fn write(model: &ExportedModel, description: &mut Map<String, Value>, path: &Path) -> Result<f64> {
    description.insert("opset".to_owned(), json!(OPSET));
    let verification = Verification::new(model)?;
    let graph = traced_graph(model, &verification)?;
    fs::write(path, encode(&graph, model, description)?)?;
    verify(&Runtime::load(path)?, &verification)
}

/// Like [`write`], but quantizes the graph to int8 after it was compared. Returns the difference
/// before quantization as well.
///
/// # Errors
/// Like [`write`]; a network without a layer that is worth quantizing.
pub fn write_int8(
    model: &ExportedModel,
    calibration: &Int8Calibration,
    description: &mut Map<String, Value>,
    path: &Path,
) -> Result<(f64, Quantization)> {
    description.insert("opset".to_owned(), json!(OPSET));
    let verification = Verification::new(model)?;
    let graph = traced_graph(model, &verification)?;
    let float_bytes = encode(&graph, model, description)?;
    let float_size = float_bytes.len();
    let difference = verify(&Runtime::new(float_bytes)?, &verification)?;
    let graph = fold::fold(graph)?;
    let ranges = calibration.ranges(&graph, model)?;
    let graph = quantize::quantize(graph, &ranges)?;
    let predicted = Runtime::new(encode(&graph, model, description)?)?.predict(&calibration.validation)?;
    let quantization = calibration.compare(&predicted, float_size)?;
    description.insert("quantization".to_owned(), json!(quantization));
    let bytes = encode(&graph, model, description)?;
    fs::write(path, &bytes)?;
    verify_int8(&Runtime::load(path)?, model, calibration, &predicted)?;
    Ok((difference, Quantization { size: bytes.len(), ..quantization }))
}

/// Checks that the quantized file returns probabilities for batches of several sizes, and predicts
/// the classes that it was evaluated with.
fn verify_int8(
    runtime: &Runtime,
    model: &ExportedModel,
    calibration: &Int8Calibration,
    predicted: &[u8],
) -> Result<()> {
    for count in [1, 7, MAX_BATCH].map(|count| count.min(predicted.len())) {
        let images = Images::select(&calibration.validation, &(0..count).collect::<Vec<_>>());
        let probabilities = runtime.run(images.pixels.all()?.iter().map(|pixel| f32::from(*pixel)).collect())?;
        ensure!(probabilities.len() == count * model.classes(), "the quantized file returns another shape");
        for (row, class) in probabilities.chunks(model.classes().max(1)).zip(predicted) {
            ensure!(
                (row.iter().sum::<f32>() - 1.0).abs() < 1e-3,
                "the quantized file returns no probabilities: {row:?}"
            );
            ensure!(argmax(row).0 == *class, "the quantized file predicts another class after it was written");
        }
    }
    Ok(())
}

fn traced_graph(model: &ExportedModel, verification: &Verification) -> Result<Graph> {
    let named = model.named_tensors();
    let tensors: Vec<torch_ext::NamedTensor> = named
        .iter()
        .map(|named| torch_ext::NamedTensor { name: &named.name, tensor: &named.tensor, buffer: !named.trainable })
        .collect();
    let example = verification.example()?.f_to_dtype(Kind::Float, false, false)?;
    let forward = |pixels: &Tensor| model.probabilities(pixels);
    let (operations, result) =
        torch_ext::trace_operations(&tensors, &example, &forward).context("tracing the network failed")?;
    operators::translate(&operations, result, &tensors)
}

fn encode(graph: &Graph, model: &ExportedModel, description: &Map<String, Value>) -> Result<Vec<u8>> {
    let description = serde_json::to_string_pretty(description)?;
    Ok(graph.encode(SIDE as i64, model.classes() as i64, &[(METADATA_KEY, &description)]))
}

fn verify(runtime: &Runtime, verification: &Verification) -> Result<f64> {
    verification.compare(&BATCHES, |pixels| {
        let batch = pixels.size().first().copied().unwrap_or(0);
        let values: Vec<f32> = Vec::try_from(pixels.f_flatten(0, -1)?)?;
        let probabilities = runtime.run(values)?;
        Ok(Tensor::f_from_slice(&probabilities)?.f_view([batch, -1])?)
    })
}

#[cfg(test)]
mod tests;
