//! TorchScript: a module that takes raw pixels and needs nothing of this program, checked before it is handed over.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use tch::{CModule, Device, IValue, Kind, Tensor};
use torch_ext::NamedTensor;

use crate::data::config::CLASSES;
use crate::data::device_images::DeviceImages;
use crate::data::images::{Images, PIXELS, SIDE};
use crate::inference::forward::predict_with_tta;
use crate::inference::trained_run::TrainedNet;
use crate::metrics::predictions::Predictions;
use crate::model::{Mode, Named, Net};
use crate::transforms::tta::{Tta, TtaTransform};
use crate::util::error::input;
use crate::util::files::{check_output_file, read_small_text, replace_atomically, write_atomically};
use crate::util::rng::{Rng, Stream};

/// Name of the extra file inside the archive.
pub const EXTRA_FILE: &str = "model.json";

/// Greatest difference in a probability that the exported file may show against the checkpoint.
const TOLERANCE: f64 = 1e-5;

/// Images that an export is checked on.
const CHECKED_FACES: usize = 256;

/// Images in the largest batch of the check, the first of them those of [`CHECKED_FACES`].
const MAX_BATCH: usize = 300;

/// What an export did.
#[derive(Debug)]
pub struct Exported {
    /// The description beside the model.
    pub description: PathBuf,
    /// Greatest difference of a probability found by the check.
    pub difference: f64,
    /// Images checked.
    pub images: usize,
}

impl Exported {
    /// What was done, in a sentence.
    pub fn describe(&self, out: &Path) -> String {
        format!(
            "{} written, {} beside it; read back and compared on {} images: probabilities differ by {} at most",
            out.display(),
            self.description.display(),
            self.images,
            if self.difference == 0.0 { "0".to_owned() } else { format!("{:.0e}", self.difference) },
        )
    }
}

/// Writes the best weights of `run` as TorchScript to `out`, and `model.json` beside it, as [`write()`] does it.
///
/// # Errors
/// As [`write()`].
pub fn export(run: &TrainedNet, tta: Tta, out: &Path) -> Result<Exported> {
    let net = run.net(Device::Cpu)?;
    let mut description = contract(&run.config.name, &run.config.data.classes, tta);
    description.insert("parameters".to_owned(), json!(net.parameters()));
    description.insert("provenance".to_owned(), provenance(run));
    description.insert("config".to_owned(), json!(run.checkpoint.config));
    write(&[net], tta, &description, out)
}

/// Writes the mean of `nets`' probabilities, each averaged over `tta` of an image, as one TorchScript module to `out`, and
/// `description` beside it and in it.
///
/// The file takes uint8 or float32 pixels 0..255, [N, 1, 48, 48], and gives probabilities float32 [N, classes]. Tensors are
/// registered under their checkpoint names, behind `model1.`, `model2.`, ... where there are several networks. It is
/// written to a temporary file, read back and compared with what the networks give first; only then does it take its place.
///
/// # Errors
/// libtorch's, I/O errors with their path, and a file that does not compute what the networks do.
pub fn write(nets: &[Net], tta: Tta, description: &Map<String, Value>, out: &Path) -> Result<Exported> {
    let beside = beside(out);
    check_beside(&beside)?;
    let description = serde_json::to_string_pretty(description)?;
    let difference = write_module(nets, tta, &description, out)?;
    write_atomically(&beside, (description + "\n").as_bytes())?;
    Ok(Exported { description: beside, difference, images: CHECKED_FACES })
}

/// Traces the mean of `nets` into `out` and checks the file; the greatest difference of a probability.
fn write_module(nets: &[Net], tta: Tta, description: &str, out: &Path) -> Result<f64> {
    let prefix = |number: usize| if nets.len() > 1 { format!("model{number}.") } else { String::new() };
    let named: Vec<Named> = nets
        .iter()
        .zip(1..)
        .flat_map(|(net, number)| {
            net.named().into_iter().map(move |named| Named { name: prefix(number) + &named.name, ..named })
        })
        .collect();
    let tensors: Vec<NamedTensor> = named
        .iter()
        .map(|named| NamedTensor { name: &named.name, tensor: &named.tensor, buffer: !named.trainable })
        .collect();
    let images = check_images(MAX_BATCH);
    let wanted = wanted(nets, tta, &images)?;
    let device_images = DeviceImages::new(&images, Device::Cpu)?;
    let example = device_images.slice(0, 3)?;
    let forward = |pixels: &Tensor| mean_probabilities(nets, tta, pixels);
    let mut difference = 0.0;
    replace_atomically(out, |temporary| {
        torch_ext::trace_module(temporary, &tensors, &example, &forward, &[(EXTRA_FILE, description)])
            .context("tracing the network failed")?;
        difference = verify(temporary, device_images.pixels(), &wanted)?;
        Ok(())
    })?;
    Ok(difference)
}

/// `model.pt` -> `model.json`, in the same folder.
fn beside(out: &Path) -> PathBuf {
    let json = out.with_extension("json");
    if json == out { out.with_extension("json.json") } else { json }
}

/// Refuses to replace a JSON file that no export wrote, such as a run's summary.json.
fn check_beside(path: &Path) -> Result<()> {
    check_output_file(path)?;
    if !path.exists() {
        return Ok(());
    }
    let is_ours = |text: &str| {
        let found: Option<Value> = serde_json::from_str(text).ok();
        found.is_some_and(|value| value.get("labels").is_some() && value.get("input").is_some())
    };
    if read_small_text(path, 1 << 24, "a description of an exported model").is_ok_and(|text| is_ours(&text)) {
        return Ok(());
    }
    let shown = path.display();
    Err(input(format!("{shown}: would be replaced by the model's description, but is none; choose another --out")))
}

/// What the exported module computes: float32 [N, classes].
fn mean_probabilities(nets: &[Net], tta: Tta, pixels: &Tensor) -> Result<Tensor> {
    let mut parts = Vec::new();
    for net in nets {
        // Pixels take on a parameter's number format and device, so that a module moved with `.to()` works as it is.
        let weight = net.named().into_iter().next().context("the network has no tensors")?.tensor;
        let x = pixels.f_type_as(&weight)?.f_mul_scalar(1.0 / 255.0)?;
        for transform in TtaTransform::all(tta) {
            let probabilities = net.forward(&transform.apply(&x)?, Mode::Trace)?.f_softmax(-1, None)?;
            parts.push(probabilities.f_to_dtype(Kind::Float, false, false)?);
        }
    }
    let (first, others) = parts.split_first().context("there is no network to export")?;
    if others.is_empty() {
        return Ok(first.shallow_clone());
    }
    let mut sum = first.shallow_clone();
    for part in others {
        sum = sum.f_add(part)?;
    }
    Ok(sum.f_div_scalar(parts.len() as i64)?)
}

/// What a description of an exported model says of its use: `name`, `labels`, `input`, `output`, `tta`.
pub fn contract(name: &str, classes: &[String], tta: Tta) -> Map<String, Value> {
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
                "meaning": "grayscale images, rows from the top, 0 black; the module scales them itself",
            }),
        ),
        ("output", json!({"shape": ["N", classes.len()], "dtype": "float32", "meaning": "probability of each label"})),
        ("tta", json!(tta)),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Where the weights of an exported model come from.
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

/// `count` made-up images for comparing: smooth waves and noise.
fn check_images(count: usize) -> Images {
    let image = |number: usize| {
        let mut rng = Rng::new(&[Stream::Draw as u64, u64::MAX, number as u64]);
        let (fx, fy, phase) = (rng.between(0.05, 0.5), rng.between(0.05, 0.5), rng.between(0.0, 6.0));
        let pixel = |place: usize, rng: &mut Rng| {
            let wave = ((place % SIDE) as f64 * fx + (place / SIDE) as f64 * fy + phase).sin();
            (127.5 + 90.0 * wave + 30.0 * rng.normal()).clamp(0.0, 255.0) as u8
        };
        (0..PIXELS).map(|place| pixel(place, &mut rng)).collect::<Vec<_>>()
    };
    Images { pixels: (0..count).flat_map(image).collect(), rows: (0..count as u32).collect(), ..Images::default() }
}

/// The probabilities that `evaluate` and `predict` would give for `images`: float32 [N, classes]. They come by another way
/// than the module's: our own kernels, tta one after the other, an average in double precision.
fn wanted(nets: &[Net], tta: Tta, images: &Images) -> Result<Tensor> {
    let images = DeviceImages::new(images, Device::Cpu)?;
    let parts = nets.iter().map(|net| predict_with_tta(net, &images, tta)).collect::<Result<Vec<_>>>()?;
    let mean = Predictions::average(&parts)?;
    Ok(Tensor::f_from_slice(&mean.probabilities)?.f_view([images.len(), mean.classes as i64])?)
}

/// Reads the file back and compares it with the `wanted` probabilities of `images`, uint8 [300, 1, 48, 48]: 256 images, both
/// input types, and batches of 1 and 300.
fn verify(path: &Path, images: &Tensor, wanted: &Tensor) -> Result<f64> {
    let module = CModule::load(path).context("the file that was written cannot be read back")?;
    let theirs = |pixels: &Tensor| -> Result<Tensor> {
        match tch::no_grad(|| module.forward_is(&[IValue::Tensor(pixels.shallow_clone())]))? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(anyhow!("the exported module returns {other:?}, expected a tensor")),
        }
    };
    let mut worst: f64 = 0.0;
    let (checked, all) = (CHECKED_FACES as i64, MAX_BATCH as i64);
    for (start, count, kind) in
        [(0, checked, Kind::Uint8), (0, checked, Kind::Float), (7, 1, Kind::Uint8), (0, all, Kind::Uint8)]
    {
        let pixels = images.f_narrow(0, start, count)?.f_to_dtype(kind, false, false)?;
        let (wanted, got) = (wanted.f_narrow(0, start, count)?, theirs(&pixels)?);
        if got.size() != wanted.size() || got.f_kind()? != Kind::Float {
            return Err(anyhow!(
                "the exported module returns {:?} {:?} for {:?}",
                got.f_kind()?,
                got.size(),
                pixels.size()
            ));
        }
        let difference = (got - wanted).f_abs()?.f_max()?.f_double_value(&[])?;
        if difference.is_nan() || difference > TOLERANCE {
            return Err(anyhow!(
                "the exported module differs from the checkpoint by {difference:.1e} for {:?}; allowed is {TOLERANCE:.0e}",
                pixels.size()
            ));
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::networks;

    #[test]
    fn every_network_survives_export() {
        let folder = tempfile::tempdir().unwrap();
        for config in networks() {
            let net = Net::new(&config, 5, 3, Device::Cpu).unwrap();
            let out = folder.path().join("model.pt");
            let difference = write_module(&[net], Tta::None, "{}", &out);
            let difference = difference.unwrap_or_else(|error| panic!("{config:?}: {error:#}"));
            assert!(difference <= TOLERANCE, "{config:?}: {difference}");
        }
    }

    #[test]
    fn tta_and_networks_are_averaged_by_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.pt");
        let nets: Vec<Net> =
            (0..2).map(|number| Net::new(&networks().swap_remove(number), 5, 3, Device::Cpu).unwrap()).collect();
        let images = check_images(MAX_BATCH);
        let mean = |tta| wanted(&nets, tta, &images).unwrap();
        for (nets, tta) in [(&nets[..], Tta::Flip), (&nets[..1], Tta::TenCrop)] {
            assert!(write_module(nets, tta, "{}", &out).unwrap() <= TOLERANCE, "{tta}");
        }
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(apart(&mean(Tta::None), &mean(Tta::Flip)) > 10.0 * TOLERANCE, "the check can tell tta apart");
        assert!(apart(&mean(Tta::Flip), &mean(Tta::TenCrop)) > 10.0 * TOLERANCE);
        let alone: Vec<Tensor> = nets.chunks(1).map(|net| wanted(net, Tta::None, &images).unwrap()).collect();
        let by_hand = (&alone[0] + &alone[1]) / 2.0;
        assert!(apart(&by_hand, &mean(Tta::None)) < 1e-6, "an ensemble's average is the mean of its models'");
    }

    #[test]
    fn a_file_that_computes_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let net = |seed| Net::new(&networks().swap_remove(0), 5, seed, Device::Cpu).unwrap();
        let out = folder.path().join("model.pt");
        write_module(&[net(1)], Tta::None, "{}", &out).unwrap();
        let images = check_images(MAX_BATCH);
        let other = wanted(&[net(2)], Tta::None, &images).unwrap();
        let pixels = DeviceImages::new(&images, Device::Cpu).unwrap();
        let message = verify(&out, pixels.pixels(), &other).unwrap_err().to_string();
        assert!(message.contains("differs from the checkpoint by"), "{message}");
    }

    #[test]
    fn the_description_stands_beside_the_model() {
        assert_eq!(beside(Path::new("a/model.pt")), Path::new("a/model.json"));
        assert_eq!(beside(Path::new("model.json")), Path::new("model.json.json"));
    }
}
