//! Export to TorchScript: a self-contained module that takes raw pixels.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tch::{CModule, IValue, Kind, Tensor};

use super::exported_model::ExportedModel;
use super::verification::{CHECKED_IMAGES, MAX_BATCH, Verification};

/// Name of the description inside the archive (`_extra_files` of `torch.jit.load`).
pub const EXTRA_FILE: &str = "model.json";

/// Batches of the verification: first image, size, dtype.
const BATCHES: [(usize, usize, Kind); 4] = [
    (0, CHECKED_IMAGES, Kind::Uint8),
    (0, CHECKED_IMAGES, Kind::Float),
    (7, 1, Kind::Uint8),
    (0, MAX_BATCH, Kind::Uint8),
];

/// Traces `model` into the file `path` and compares the reloaded file with the networks. Returns
/// the max difference of a probability.
///
/// The module takes pixels uint8 or float32 [N, 1, 48, 48] in 0..255 and returns probabilities
/// float32 [N, classes]. Its state dict has the names of the checkpoint. `description` goes into the
/// archive.
///
/// # Errors
/// A module that disagrees with the networks; I/O errors.
pub fn write(model: &ExportedModel, description: &str, path: &Path) -> Result<f64> {
    let named = model.named_tensors();
    let tensors: Vec<torch_ext::NamedTensor> = named
        .iter()
        .map(|named| torch_ext::NamedTensor { name: &named.name, tensor: &named.tensor, buffer: !named.trainable })
        .collect();
    let verification = Verification::new(model)?;
    let forward = |pixels: &Tensor| model.probabilities(pixels);
    torch_ext::trace_module(path, &tensors, &verification.example()?, &forward, &[(EXTRA_FILE, description)])
        .context("tracing the network failed")?;
    let module = CModule::load(path).context("cannot reload the exported module")?;
    verification.compare(&BATCHES, |pixels| {
        match tch::no_grad(|| module.forward_is(&[IValue::Tensor(pixels.shallow_clone())]))? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(anyhow!("the exported module returns {other:?}, expected a tensor")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::verification::TOLERANCE;
    use super::*;
    use crate::model::Net;
    use crate::testing::networks;
    use crate::transforms::tta::Tta;
    use tch::Device;

    #[test]
    fn every_network_can_be_exported() {
        let folder = tempfile::tempdir().unwrap();
        for config in networks() {
            let net = Net::new(&config, 5, 3, Device::Cpu).unwrap();
            let model = ExportedModel::from_nets(vec![net], Tta::None);
            let difference = write(&model, "{}", &folder.path().join("model.pt"));
            let difference = difference.unwrap_or_else(|error| panic!("{config:?}: {error:#}"));
            assert!(difference <= TOLERANCE, "{config:?}: {difference}");
        }
    }

    #[test]
    fn the_module_averages_over_tta_and_networks() {
        let folder = tempfile::tempdir().unwrap();
        let net = |index: usize| Net::new(&networks().swap_remove(index), 5, 3, Device::Cpu).unwrap();
        for (nets, tta) in [(vec![net(0), net(1)], Tta::Flip), (vec![net(0)], Tta::TenCrop)] {
            let model = ExportedModel::from_nets(nets, tta);
            assert!(write(&model, "{}", &folder.path().join("model.pt")).unwrap() <= TOLERANCE, "{tta}");
        }
    }
}
