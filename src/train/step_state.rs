//! The tensors of a [`Trainer`]: to checkpoints, from them, and from rank 0 of a group.

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use super::snapshot::{EMA, OPTIMIZER, Snapshot, copy_to_cpu, is_network_tensor};
use super::step::Trainer;
use crate::run_dir::checkpoint::NamedTensors;

impl Trainer {
    /// Takes over weights, statistics, EMA and optimizer state of rank 0 of the group, if there is one.
    pub fn broadcast(&mut self) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let weights = [&self.parameters.values, &self.parameters.statistics];
        let averages = self.ema.iter().flat_map(|ema| [&ema.values, &ema.statistics]);
        let all = weights.into_iter().chain(averages).chain(self.optimizer.state().map(|(_, flat)| flat));
        all.filter(|flat| flat.numel() > 0).try_for_each(|flat| group.broadcast(&mut flat.shallow_clone()))
    }

    /// As [`broadcast`](Self::broadcast), if the updates of the processes of a group may have been rounded
    /// differently.
    pub fn remove_drift(&mut self) -> Result<()> {
        if self.optimizer.multiplies_matrices() { self.broadcast() } else { Ok(()) }
    }

    /// Tensors of network, optimizer and EMA for checkpoints: views on the CPU, a copy from a GPU,
    /// which is one because each waits for the device.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut flat = vec![&self.parameters.values, &self.parameters.statistics];
        flat.extend(self.ema.iter().flat_map(|ema| [&ema.values, &ema.statistics]));
        flat.extend(self.optimizer.state().map(|(_, flat)| flat));
        let flat = flat.into_iter().map(Tensor::f_detach).collect::<Result<Vec<_>, _>>()?;
        let mut flat = if self.net.device() == Device::Cpu { flat } else { copy_to_cpu(&flat)? }.into_iter();
        let mut next = || flat.next().context("a snapshot lacks a tensor");
        let weights = self.parameters.all_views(&next()?, &next()?)?;
        let average = if self.ema.is_some() { Some(self.parameters.all_views(&next()?, &next()?)?) } else { None };
        let mut optimizer = Vec::new();
        for (slot, _) in self.optimizer.state() {
            let views = self.parameters.trained_views(&next()?)?;
            optimizer.extend(views.into_iter().map(|(name, view)| (format!("{OPTIMIZER}.{slot}.{name}"), view)));
        }
        Ok(Snapshot { weights, average, optimizer })
    }

    /// Loads tensors returned by `Snapshot::all`.
    ///
    /// # Errors
    /// The name of the first tensor that is missing or has another shape.
    pub fn load(&mut self, tensors: NamedTensors) -> Result<()> {
        let (weights, others): (NamedTensors, NamedTensors) =
            tensors.into_iter().partition(|(name, _)| is_network_tensor(name));
        self.parameters.use_weights(&self.parameters.values, &self.parameters.statistics)?;
        self.net.load_state_dict(&weights)?;
        self.parameters.use_training_weights()?;
        let mut views = Vec::new();
        for (slot, flat) in self.optimizer.state() {
            let slot_views = self.parameters.trained_views(flat)?.into_iter();
            views.extend(slot_views.map(|(name, view)| (format!("{OPTIMIZER}.{slot}.{name}"), view)));
        }
        if let Some(ema) = &self.ema {
            let ema_views = self.parameters.all_views(&ema.values, &ema.statistics)?.into_iter();
            views.extend(ema_views.map(|(name, view)| (format!("{EMA}.{name}"), view)));
        }
        for (name, mut view) in views {
            let (_, value) =
                others.iter().find(|(n, _)| *n == name).with_context(|| format!("it holds no tensor {name}"))?;
            if value.size() != view.size() {
                let (found, expected) = (value.size(), view.size());
                anyhow::bail!("tensor {name} has shape {found:?}; this architecture has {expected:?}");
            }
            tch::no_grad(|| view.f_copy_(value))?;
        }
        Ok(())
    }
}
