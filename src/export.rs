//! TorchScript: a module that takes raw pixels and needs nothing of this program, checked before it is handed over.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tch::{CModule, Device, IValue, Kind, Tensor};
use torch_ext::NamedTensor;

use crate::config::{CLASSES, PIXELS, SIDE};
use crate::error::input;
use crate::files::{check_output_file, read_small_text, replace_atomically, write_atomically};
use crate::model::{Mode, Net};
use crate::rng::{Rng, Stream};
use crate::rundir::TrainedNet;

/// Name of the extra file inside the archive.
pub const EXTRA_FILE: &str = "model.json";

/// Greatest difference in a probability that the exported file may show against the checkpoint.
const TOLERANCE: f64 = 1e-5;

/// Faces that an export is checked on.
const CHECKED_FACES: usize = 256;

/// What an export did.
#[derive(Debug)]
pub struct Exported {
    /// The description beside the model.
    pub description: PathBuf,
    /// Greatest difference of a probability found by the check.
    pub difference: f64,
    /// Faces checked.
    pub faces: usize,
}

/// Writes the best weights of `run` as TorchScript to `out`, and `model.json` beside it.
///
/// The file takes uint8 or float32 pixels 0..255, [N, 1, 48, 48], and gives probabilities float32 [N, classes]. It is
/// written to a temporary file, read back and compared with the checkpoint first; only then does it take its place.
///
/// # Errors
/// libtorch's, I/O errors with their path, and a file that does not compute what the checkpoint does.
pub fn export(run: &TrainedNet, out: &Path) -> Result<Exported> {
    let beside = beside(out);
    check_beside(&beside)?;
    let net = run.net(Device::Cpu)?;
    let description = serde_json::to_string_pretty(&describe(run, &net))?;
    let difference = write_module(&net, &description, out)?;
    write_atomically(&beside, (description + "\n").as_bytes())?;
    Ok(Exported { description: beside, difference, faces: CHECKED_FACES })
}

/// Traces `net` into `out` and checks the file; the greatest difference of a probability.
fn write_module(net: &Net, description: &str, out: &Path) -> Result<f64> {
    let named = net.named();
    let tensors: Vec<NamedTensor> = named
        .iter()
        .map(|named| NamedTensor { name: &named.name, tensor: &named.tensor, buffer: !named.trainable })
        .collect();
    let faces = check_faces(CHECKED_FACES);
    let example = faces.f_narrow(0, 0, 3)?;
    let first = named.first().context("the network has no tensors")?;
    let forward = |pixels: &Tensor| probabilities(net, &first.tensor, pixels);
    let mut difference = 0.0;
    replace_atomically(out, |temporary| {
        torch_ext::trace_module(temporary, &tensors, &example, &forward, &[(EXTRA_FILE, description)])
            .context("tracing the network failed")?;
        difference = verify(temporary, net, &faces)?;
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

/// What the exported module computes. `weight` is one of its parameters: pixels take on its number format and device, so
/// that a module moved with `.to()` works as it is.
fn probabilities(net: &Net, weight: &Tensor, pixels: &Tensor) -> Result<Tensor> {
    let x = pixels.f_type_as(weight)?.f_mul_scalar(1.0 / 255.0)?;
    let probabilities = net.forward(&x, Mode::Trace)?.f_softmax(-1, None)?;
    Ok(probabilities.f_to_dtype(Kind::Float, false, false)?)
}

fn describe(run: &TrainedNet, net: &Net) -> Value {
    let state = &run.checkpoint.state;
    let classes = &run.config.data.classes;
    let standard = classes.iter().map(String::as_str).eq(CLASSES);
    json!({
        "name": run.config.name,
        "labels": classes,
        "labels_are_fer2013": standard,
        "input": {
            "name": "pixels",
            "shape": ["N", 1, SIDE, SIDE],
            "dtype": ["uint8", "float32"],
            "range": [0, 255],
            "meaning": "grey faces, rows from the top, 0 black; the module scales them itself",
        },
        "output": {"shape": ["N", classes.len()], "dtype": "float32", "meaning": "probability of each label"},
        "parameters": net.parameters(),
        "provenance": {
            "grimace": env!("CARGO_PKG_VERSION"),
            "libtorch": torch_ext::torch_version(),
            "seed": run.config.seed,
            "epoch": state.best.map(|best| best.epoch),
            "val_accuracy": state.best.map(|best| best.val_accuracy),
            "val_accuracy_without_copies": state.best.and_then(|best| best.val_accuracy_without_copies),
            "data_hash": state.data_hash,
            "split_hash": state.split_hash,
        },
        "config": run.checkpoint.config,
    })
}

/// `count` made-up faces for comparing: smooth waves and noise, uint8 [count, 1, 48, 48].
fn check_faces(count: usize) -> Tensor {
    let face = |number: usize| {
        let mut rng = Rng::new(&[Stream::Draw as u64, u64::MAX, number as u64]);
        let (fx, fy, phase) = (rng.between(0.05, 0.5), rng.between(0.05, 0.5), rng.between(0.0, 6.0));
        let pixel = |place: usize, rng: &mut Rng| {
            let wave = ((place % SIDE) as f64 * fx + (place / SIDE) as f64 * fy + phase).sin();
            (127.5 + 90.0 * wave + 30.0 * rng.normal()).clamp(0.0, 255.0) as u8
        };
        (0..PIXELS).map(|place| pixel(place, &mut rng)).collect::<Vec<_>>()
    };
    let pixels: Vec<u8> = (0..count).flat_map(face).collect();
    Tensor::from_slice(&pixels).view([count as i64, 1, SIDE as i64, SIDE as i64])
}

/// Reads the file back and compares it with the network: 256 faces, both input types, and batches of 1 and 300.
fn verify(path: &Path, net: &Net, faces: &Tensor) -> Result<f64> {
    let module = CModule::load(path).context("the file that was written cannot be read back")?;
    let own = |pixels: &Tensor| -> Result<Tensor> {
        let x = pixels.f_to_dtype(Kind::Float, false, false)?.f_mul_scalar(1.0 / 255.0)?;
        Ok(tch::no_grad(|| net.forward(&x, Mode::Inference))?.f_softmax(-1, Kind::Float)?)
    };
    let theirs = |pixels: &Tensor| -> Result<Tensor> {
        match tch::no_grad(|| module.forward_is(&[IValue::Tensor(pixels.shallow_clone())]))? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(anyhow!("the exported module returns {other:?}, expected a tensor")),
        }
    };
    let mut worst: f64 = 0.0;
    let large = Tensor::f_cat(&[faces, &faces.f_narrow(0, 0, 44)?], 0)?;
    for pixels in [faces.shallow_clone(), faces.f_to_dtype(Kind::Float, false, false)?, faces.f_narrow(0, 7, 1)?, large]
    {
        let (wanted, got) = (own(&pixels)?, theirs(&pixels)?);
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
            let difference = write_module(&net, "{}", &out).unwrap_or_else(|error| panic!("{config:?}: {error:#}"));
            assert!(difference <= TOLERANCE, "{config:?}: {difference}");
        }
    }

    #[test]
    fn a_file_that_computes_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let net = |seed| Net::new(&networks().swap_remove(0), 5, seed, Device::Cpu).unwrap();
        let out = folder.path().join("model.pt");
        write_module(&net(1), "{}", &out).unwrap();
        let message = verify(&out, &net(2), &check_faces(256)).unwrap_err().to_string();
        assert!(message.contains("differs from the checkpoint by"), "{message}");
    }

    #[test]
    fn the_description_stands_beside_the_model() {
        assert_eq!(beside(Path::new("a/model.pt")), Path::new("a/model.json"));
        assert_eq!(beside(Path::new("model.json")), Path::new("model.json.json"));
    }
}
