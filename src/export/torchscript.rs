//! Export to TorchScript: a self-contained module that takes raw pixels, verified before it
//! replaces a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use tch::{CModule, Device, IValue, Kind, Tensor};

use super::output_path::{ExportPath, FILE_KEY, HASH_KEY, hash_file};
use crate::data::config::CLASSES;
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS, SIDE};
use crate::inference::forward::predict_with_tta;
use crate::inference::trained_run::TrainedNet;
use crate::metrics::predictions::Predictions;
use crate::model::{Mode, NamedTensor, Net};
use crate::transforms::tta::Tta;
use crate::util::files::Output;
use crate::util::rng::{Rng, Stream};

/// Name of the description inside the archive (`_extra_files` of `torch.jit.load`).
pub const EXTRA_FILE: &str = "model.json";

/// Max difference of a probability between the exported module and the checkpoint.
const TOLERANCE: f64 = 1e-5;

/// Images that an export is verified on.
const CHECKED_IMAGES: usize = 256;

/// Largest batch of the verification; it begins with the [`CHECKED_IMAGES`].
const MAX_BATCH: usize = 300;

/// Result of an export.
#[derive(Debug)]
pub struct Exported {
    /// Path of the description.
    pub description: PathBuf,
    /// Max difference of a probability between the module and the checkpoint.
    pub difference: f64,
    /// Number of images compared.
    pub images: usize,
}

impl Exported {
    /// Describes the export in a sentence.
    pub fn describe(&self, out: &Path) -> String {
        format!(
            "wrote {} and {}; reloaded and compared on {} images: max probability difference {}",
            out.display(),
            self.description.display(),
            self.images,
            if self.difference == 0.0 { "0".to_owned() } else { format!("{:.0e}", self.difference) },
        )
    }
}

/// Exports the best weights of `run` to `out`, with a description.
///
/// # Errors
/// Like `write_module`.
pub fn export(run: &TrainedNet, tta: Tta, out: &ExportPath) -> Result<Exported> {
    let net = run.net(Device::Cpu)?;
    let mut description = describe_model(&run.config.name, &run.config.data.classes, tta);
    description.insert("parameters".to_owned(), json!(net.parameter_count()));
    description.insert("provenance".to_owned(), provenance(run));
    description.insert("config".to_owned(), json!(run.checkpoint.config));
    write_module(&[net], tta, &description, out)
}

/// Writes a TorchScript module that averages the probabilities of `nets` with `tta` to `out`.
/// `description` goes into the archive and, with the hash of `out`, into a JSON file of the same
/// name. Commands check both paths first (`check_export_path`).
///
/// The module takes pixels uint8 or float32 [N, 1, 48, 48] in 0..255 and returns probabilities
/// float32 [N, classes]. Its state dict has the names of the checkpoint, with the prefixes
/// `model1.`, `model2.`, ... for several networks. `out` is replaced only after a temporary file
/// was reloaded and agreed with the networks.
///
/// # Errors
/// A module that disagrees with the networks; I/O errors with the path.
pub fn write_module(nets: &[Net], tta: Tta, description: &Map<String, Value>, out: &ExportPath) -> Result<Exported> {
    let difference = trace_and_verify(nets, tta, &serde_json::to_string_pretty(description)?, &out.model)?;
    let mut description = description.clone();
    let name = out.model.path().file_name().map(|name| name.to_string_lossy());
    description.insert(FILE_KEY.to_owned(), json!(name));
    description.insert(HASH_KEY.to_owned(), json!(hash_file(out.model.path())?));
    out.description.write((serde_json::to_string_pretty(&description)? + "\n").as_bytes())?;
    Ok(Exported { description: out.description.path().to_path_buf(), difference, images: CHECKED_IMAGES })
}

/// Traces the mean of `nets` into `out` and verifies the file. Returns the max difference of a
/// probability.
fn trace_and_verify(nets: &[Net], tta: Tta, description: &str, out: &Output) -> Result<f64> {
    let prefix = |number: usize| if nets.len() > 1 { format!("model{number}.") } else { String::new() };
    let named: Vec<NamedTensor> = nets
        .iter()
        .zip(1..)
        .flat_map(|(net, number)| {
            net.named_tensors()
                .into_iter()
                .map(move |named| NamedTensor { name: prefix(number) + &named.name, ..named })
        })
        .collect();
    let tensors: Vec<torch_ext::NamedTensor> = named
        .iter()
        .map(|named| torch_ext::NamedTensor { name: &named.name, tensor: &named.tensor, buffer: !named.trainable })
        .collect();
    let images = check_images(MAX_BATCH);
    let expected = expected_probabilities(nets, tta, &images)?;
    let device_images = DeviceImages::new(&images, Device::Cpu)?;
    let example = device_images.slice(0, 3)?;
    let forward = |pixels: &Tensor| mean_probabilities(nets, tta, pixels);
    let mut difference = 0.0;
    out.replace(|temporary| {
        torch_ext::trace_module(temporary, &tensors, &example, &forward, &[(EXTRA_FILE, description)])
            .context("tracing the network failed")?;
        difference = verify(temporary, device_images.pixels(), &expected)?;
        Ok(())
    })?;
    Ok(difference)
}

/// Forward pass of the exported module: probabilities float32 [N, classes].
fn mean_probabilities(nets: &[Net], tta: Tta, pixels: &Tensor) -> Result<Tensor> {
    let mut parts = Vec::new();
    for net in nets {
        // The dtype and device of a parameter, so that the module works after `.to()`.
        let weight = net.named_tensors().into_iter().next().context("the network has no tensors")?.tensor;
        let x = pixels.f_type_as(&weight)?.f_mul_scalar(1.0 / 255.0)?;
        for transform in tta.transforms() {
            let probabilities = net.forward(&transform.apply(&x)?, Mode::Trace)?.f_softmax(-1, None)?;
            parts.push(probabilities.f_to_dtype(Kind::Float, false, false)?);
        }
    }
    let (first, others) = parts.split_first().context("no network to export")?;
    if others.is_empty() {
        return Ok(first.shallow_clone());
    }
    let mut sum = first.shallow_clone();
    for part in others {
        sum = sum.f_add(part)?;
    }
    Ok(sum.f_div_scalar(parts.len() as i64)?)
}

/// Describes an exported model: `name`, `labels`, `input`, `output`, `tta`.
pub fn describe_model(name: &str, classes: &[String], tta: Tta) -> Map<String, Value> {
    let entries = [
        ("name", json!(name)),
        ("labels", json!(classes)),
        ("labels_are_fer2013", json!(classes.iter().map(String::as_str).eq(CLASSES))),
        (
            "input",
            json!({
                "name": "pixels",
                "shape": ["N", 1, SIDE, SIDE],
                "dtype": ["uint8", "float32"],
                "range": [0, 255],
                "meaning": "grayscale images, rows from the top, 0 is black; the module scales them",
            }),
        ),
        ("output", json!({"shape": ["N", classes.len()], "dtype": "float32", "meaning": "probability of each label"})),
        ("tta", json!(tta)),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Provenance of the weights of an exported model.
pub fn provenance(run: &TrainedNet) -> Value {
    let state = &run.checkpoint.state;
    json!({
        "grimace": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::torch_version(),
        "seed": run.config.seed,
        "epoch": state.best.map(|best| best.epoch),
        "val_accuracy": state.best.map(|best| best.val_accuracy),
        "val_accuracy_dedup": state.best.and_then(|best| best.val_accuracy_dedup),
        "data_hash": state.data_hash,
        "split_hash": state.split_hash,
    })
}

/// Generates `count` images of smooth waves and noise to compare outputs on.
fn check_images(count: usize) -> Images {
    let image = |index: usize| {
        let mut rng = Rng::new(&[Stream::Synthetic as u64, u64::MAX, index as u64]);
        let (fx, fy, phase) = (rng.between(0.05, 0.5), rng.between(0.05, 0.5), rng.between(0.0, 6.0));
        let pixel = |position: usize, rng: &mut Rng| {
            let wave = ((position % SIDE) as f64 * fx + (position / SIDE) as f64 * fy + phase).sin();
            (127.5 + 90.0 * wave + 30.0 * rng.normal()).clamp(0.0, 255.0) as u8
        };
        (0..PIXELS).map(|position| pixel(position, &mut rng)).collect::<Vec<_>>()
    };
    Images { pixels: (0..count).flat_map(image).collect(), rows: (0..count as u32).collect(), ..Images::default() }
}

/// Probabilities of `images` as in `evaluate` and `predict`, float32 [N, classes]. Unlike the
/// module, this path uses custom kernels and averages in float64.
fn expected_probabilities(nets: &[Net], tta: Tta, images: &Images) -> Result<Tensor> {
    let images = DeviceImages::new(images, Device::Cpu)?;
    let parts = nets.iter().map(|net| predict_with_tta(net, &images, tta)).collect::<Result<Vec<_>>>()?;
    let mean = Predictions::average(&parts)?;
    Ok(Tensor::f_from_slice(&mean.probabilities)?.f_view([images.len(), mean.classes as i64])?)
}

/// Reloads the module and compares it with the `expected` probabilities of `images`, uint8 [300, 1,
/// 48, 48], for both input dtypes and for batches of 1, 256 and 300. Returns the max difference.
fn verify(path: &Path, images: &Tensor, expected: &Tensor) -> Result<f64> {
    let module = CModule::load(path).context("cannot reload the exported module")?;
    let run = |pixels: &Tensor| -> Result<Tensor> {
        match tch::no_grad(|| module.forward_is(&[IValue::Tensor(pixels.shallow_clone())]))? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(anyhow!("the exported module returns {other:?}, expected a tensor")),
        }
    };
    let mut max_difference: f64 = 0.0;
    let (checked, all) = (CHECKED_IMAGES as i64, MAX_BATCH as i64);
    for (start, count, kind) in
        [(0, checked, Kind::Uint8), (0, checked, Kind::Float), (7, 1, Kind::Uint8), (0, all, Kind::Uint8)]
    {
        let pixels = images.f_narrow(0, start, count)?.f_to_dtype(kind, false, false)?;
        let (expected, got) = (expected.f_narrow(0, start, count)?, run(&pixels)?);
        if got.size() != expected.size() || got.f_kind()? != Kind::Float {
            return Err(anyhow!(
                "the exported module returns {:?} {:?} for {:?}, expected Float {:?}",
                got.f_kind()?,
                got.size(),
                pixels.size(),
                expected.size()
            ));
        }
        let difference = got.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])?;
        if difference.is_nan() || difference > TOLERANCE {
            return Err(anyhow!(
                "the exported module differs from the checkpoint by {difference:.1e} for {:?}; expected at most {TOLERANCE:.0e}",
                pixels.size()
            ));
        }
        max_difference = max_difference.max(difference);
    }
    Ok(max_difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::networks;

    #[test]
    fn every_network_can_be_exported() {
        let folder = tempfile::tempdir().unwrap();
        for config in networks() {
            let net = Net::new(&config, 5, 3, Device::Cpu).unwrap();
            let out = Output::owned(folder.path().join("model.pt"));
            let difference = trace_and_verify(&[net], Tta::None, "{}", &out);
            let difference = difference.unwrap_or_else(|error| panic!("{config:?}: {error:#}"));
            assert!(difference <= TOLERANCE, "{config:?}: {difference}");
        }
    }

    #[test]
    fn the_module_averages_over_tta_and_networks() {
        let folder = tempfile::tempdir().unwrap();
        let out = Output::owned(folder.path().join("model.pt"));
        let nets: Vec<Net> =
            (0..2).map(|index| Net::new(&networks().swap_remove(index), 5, 3, Device::Cpu).unwrap()).collect();
        let images = check_images(MAX_BATCH);
        let mean = |tta| expected_probabilities(&nets, tta, &images).unwrap();
        for (nets, tta) in [(&nets[..], Tta::Flip), (&nets[..1], Tta::TenCrop)] {
            assert!(trace_and_verify(nets, tta, "{}", &out).unwrap() <= TOLERANCE, "{tta}");
        }
        let difference = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(
            difference(&mean(Tta::None), &mean(Tta::Flip)) > 10.0 * TOLERANCE,
            "the tolerance distinguishes TTA modes"
        );
        assert!(difference(&mean(Tta::Flip), &mean(Tta::TenCrop)) > 10.0 * TOLERANCE);
        let alone: Vec<Tensor> =
            nets.chunks(1).map(|net| expected_probabilities(net, Tta::None, &images).unwrap()).collect();
        let by_hand = (&alone[0] + &alone[1]) / 2.0;
        assert!(difference(&by_hand, &mean(Tta::None)) < 1e-6, "an ensemble averages its models");
    }

    #[test]
    fn verify_rejects_a_module_with_other_weights() {
        let folder = tempfile::tempdir().unwrap();
        let net = |seed| Net::new(&networks().swap_remove(0), 5, seed, Device::Cpu).unwrap();
        let out = Output::owned(folder.path().join("model.pt"));
        trace_and_verify(&[net(1)], Tta::None, "{}", &out).unwrap();
        let images = check_images(MAX_BATCH);
        let other = expected_probabilities(&[net(2)], Tta::None, &images).unwrap();
        let pixels = DeviceImages::new(&images, Device::Cpu).unwrap();
        let message = verify(out.path(), pixels.pixels(), &other).unwrap_err().to_string();
        assert!(message.contains("differs from the checkpoint by"), "{message}");
    }
}
