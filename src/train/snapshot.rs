//! The tensors of a run in training, as checkpoints hold them.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::run_dir::checkpoint::NamedTensors;

/// The tensors of a checkpoint, by name.
#[derive(Debug)]
pub struct Snapshot {
    /// Weights and running statistics.
    pub(super) weights: NamedTensors,
    /// Their EMA.
    pub(super) average: Option<NamedTensors>,
    /// State of the optimizer.
    pub(super) optimizer: NamedTensors,
}

fn shared(tensors: &NamedTensors) -> impl Iterator<Item = (String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
}

impl Snapshot {
    /// The evaluation weights as `best.safetensors` holds them, sorted by name: EMA weights if
    /// `train.ema` > 0.
    pub fn evaluation_weights(&self) -> NamedTensors {
        shared(self.average.as_ref().unwrap_or(&self.weights)).collect()
    }

    /// Tensors of network, optimizer and EMA as `last.safetensors` holds them.
    pub fn all(&self) -> NamedTensors {
        let average = self.average.iter().flat_map(shared).map(|(name, view)| (format!("{EMA}.{name}"), view));
        shared(&self.weights).chain(average).chain(shared(&self.optimizer)).collect()
    }
}

/// Copies flat tensors to the CPU in one copy.
pub(super) fn copy_to_cpu(flat: &[Tensor]) -> Result<Vec<Tensor>> {
    let all = Tensor::f_cat(flat, 0)?.f_to_device(Device::Cpu)?;
    let mut start = 0;
    flat.iter()
        .map(|tensor| {
            let length = tensor.numel() as i64;
            start += length;
            Ok(all.f_narrow(0, start - length, length)?)
        })
        .collect()
}

/// Prefix of optimizer tensors in a checkpoint.
pub(super) const OPTIMIZER: &str = "optimizer";
/// Prefix of EMA tensors in a checkpoint.
pub(super) const EMA: &str = "ema";

/// Strips `prefix` and a dot from a tensor name.
fn strip_tensor_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// Whether a tensor of a checkpoint is one of the network, not of the optimizer or the EMA.
pub fn is_network_tensor(name: &str) -> bool {
    [OPTIMIZER, EMA].iter().all(|prefix| strip_tensor_prefix(name, prefix).is_none())
}

/// The evaluation weights among the tensors of `last.safetensors`: the EMA weights, if there are
/// any.
pub fn evaluation_weights(tensors: &NamedTensors) -> NamedTensors {
    let ema_tensor =
        |(name, tensor): &(String, Tensor)| Some((strip_tensor_prefix(name, EMA)?.to_owned(), tensor.shallow_clone()));
    let ema: NamedTensors = tensors.iter().filter_map(ema_tensor).collect();
    if ema.is_empty() {
        let weights = tensors.iter().filter(|(name, _)| is_network_tensor(name));
        return weights.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    }
    ema
}
