//! One training step: gather, augment, forward, loss, backward, update. Nothing is read back from
//! the device.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::batch::TrainingBatch;
use super::epoch_schedule::EpochSchedule;
use super::profile::{Phase, Profile};
use crate::config::TrainConfig;
use crate::data::device_images::DeviceImages;
use crate::data::images::SIDE;
use crate::inference::forward::predict_interruptible;
use crate::metrics::predictions::Predictions;
use crate::model::{FlatParameters, Mode, Net};
use crate::optim::ema::Ema;
use crate::optim::loss::Loss;
use crate::optim::optimizer::Optimizer;
use crate::run_dir::checkpoint::{NamedTensors, State};
use crate::transforms::resize::resize;
use crate::util::rng::{Rng, Stream};

/// A network in training, with all that a step needs on one device.
#[derive(Debug)]
pub struct Trainer {
    /// The network.
    pub net: Net,
    parameters: FlatParameters,
    optimizer: Optimizer,
    /// EMA weights, which are validated and saved as best, if `train.ema` > 0.
    ema: Option<Ema>,
    loss: Loss,
    /// Maximum global gradient norm; 0 disables clipping.
    clip_norm: f64,
    images: DeviceImages,
    /// Precision of forward and backward pass.
    kind: Kind,
    seed: u64,
    /// Side length of the images of the epoch, in pixels.
    side: usize,
    /// float32 `[steps]`: loss of each step of the epoch, written on the device.
    losses: Tensor,
    /// float32 `[steps]`: sum of all gradients of each step; not finite if any gradient is not.
    gradient_sums: Tensor,
    /// int64 `[steps]`: correct predictions of each step.
    correct: Tensor,
    /// Number of steps whose results have been read back.
    collected: u64,
    /// Times the phases of a step, if requested.
    pub profile: Option<Profile>,
}

/// The first value of an epoch that is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonFinite {
    /// What it is, with a verb: `the loss is`.
    pub what: &'static str,
    /// Step of the epoch, from 1.
    pub step: u64,
}

/// Prefix of optimizer tensors in a checkpoint.
const OPTIMIZER: &str = "optimizer";
/// Prefix of EMA tensors in a checkpoint.
const EMA: &str = "ema";

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

impl Trainer {
    /// Prepares a network for training on `images` with precision `kind` and `steps` steps per
    /// epoch.
    ///
    /// # Errors
    /// If the device has too little memory.
    pub fn new(
        net: Net,
        images: DeviceImages,
        config: &TrainConfig,
        kind: Kind,
        seed: u64,
        steps: u64,
    ) -> Result<Self> {
        torch_ext::keep_memory();
        let parameters = FlatParameters::new(&net)?;
        let optimizer = Optimizer::new(&config.optimizer, &parameters)?;
        let ema = if config.ema > 0.0 { Some(Ema::new(config.ema, &parameters)?) } else { None };
        let counts = images.class_counts(net.classes())?;
        let (loss, clip_norm) =
            (Loss::new(config.label_smoothing, &config.class_weights, &counts, net.device())?, config.clip_norm);
        let steps = i64::try_from(steps)?;
        let losses = Tensor::f_zeros([steps], (Kind::Float, net.device()))?;
        let gradient_sums = losses.f_zeros_like()?;
        let correct = Tensor::f_zeros([steps], (Kind::Int64, net.device()))?;
        let (collected, profile) = (0, None);
        Ok(Self {
            net,
            parameters,
            optimizer,
            ema,
            loss,
            clip_norm,
            images,
            kind,
            seed,
            side: SIDE,
            losses,
            gradient_sums,
            correct,
            collected,
            profile,
        })
    }

    /// Runs `step` (from 0) of `epoch` (from 0).
    pub fn step(&mut self, schedule: &EpochSchedule, epoch: u32, step: u64, lr: f64) -> Result<()> {
        self.seed_libtorch(epoch, step);
        let TrainingBatch { x, targets, labels } =
            TrainingBatch::new(&self.images, &schedule.batch(step)?, self.kind, self.net.classes())?;
        let x = resize(x, self.side)?;
        self.lap(Phase::Input);
        let logits = self.net.forward(&x, Mode::Train)?.f_to_dtype(Kind::Float, false, false)?;
        let loss = self.loss.forward(&logits, &targets)?;
        self.lap(Phase::Forward);
        self.parameters.zero_gradients()?;
        loss.f_backward()?;
        let index = i64::try_from(step)?;
        // Before the update, which adds SGD's weight decay to the gradients.
        let sum = self.parameters.gradients.f_sum(Kind::Float)?;
        self.parameters.clip_gradients(self.clip_norm)?;
        self.lap(Phase::Backward);
        let number = u64::from(epoch) * schedule.steps() + step + 1;
        self.optimizer.step(&mut self.parameters, lr, number)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.parameters, number)?;
        }
        self.lap(Phase::Update);

        tch::no_grad(|| -> Result<()> {
            self.gradient_sums.f_narrow(0, index, 1)?.f_copy_(&sum.f_view([1])?)?;
            self.losses.f_narrow(0, index, 1)?.f_copy_(&loss.f_detach()?.f_view([1])?)?;
            let correct = logits.f_detach()?.f_argmax(-1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
            self.correct.f_narrow(0, index, 1)?.f_copy_(&correct.f_view([1])?)?;
            Ok(())
        })
    }

    /// Reads back the losses and correct predictions of new steps up to `state.step` and adds them
    /// to `state`. Returns the first loss or gradient that is not finite. Waits for the device.
    pub fn collect(&mut self, schedule: &EpochSchedule, state: &mut State) -> Result<Option<NonFinite>> {
        let (from, count) = (i64::try_from(self.collected)?, i64::try_from(state.step.saturating_sub(self.collected))?);
        let read = |tensor: &Tensor| tensor.f_narrow(0, from, count)?.f_to_device(Device::Cpu);
        let losses: Vec<f32> = Vec::try_from(read(&self.losses)?)?;
        let sums: Vec<f32> = Vec::try_from(read(&self.gradient_sums)?)?;
        let correct: Vec<i64> = Vec::try_from(read(&self.correct)?)?;
        for ((step, loss), (sum, correct)) in (self.collected..).zip(losses).zip(sums.iter().zip(correct)) {
            if !loss.is_finite() {
                return Ok(Some(NonFinite { what: "the loss is", step: step + 1 }));
            }
            if !sum.is_finite() {
                return Ok(Some(NonFinite { what: "a gradient is", step: step + 1 }));
            }
            state.loss_sum += f64::from(loss) * schedule.images(step) as f64;
            state.correct += correct;
        }
        self.collected = state.step;
        Ok(None)
    }

    /// Whether all weights and the optimizer state are finite, as required of every checkpoint.
    pub fn is_finite(&self) -> Result<bool> {
        let weights = [&self.parameters.values, &self.parameters.statistics];
        let emas = self.ema.iter().flat_map(|ema| [&ema.values, &ema.statistics]);
        let state = self.optimizer.state().map(|(_, flat)| flat);
        let sums =
            weights.into_iter().chain(emas).chain(state).map(|tensor| Ok(tensor.f_detach()?.f_isfinite()?.f_all()?));
        let all = Tensor::f_stack(&sums.collect::<Result<Vec<_>>>()?, 0)?.f_all()?;
        Ok(bool::try_from(all)?)
    }

    /// Adds the time since the last call to `phase`, if a profile was requested.
    pub fn lap(&mut self, phase: Phase) {
        if let Some(profile) = &mut self.profile {
            profile.lap(phase);
        }
    }

    /// Starts an epoch at `step`, 0 unless the run is resumed in it, with images of `side` x `side`
    /// pixels.
    pub fn begin_epoch(&mut self, step: u64, side: usize) {
        self.collected = step;
        self.side = side;
    }

    /// The evaluation weights as `best.safetensors` holds them, sorted by name: EMA weights if
    /// `train.ema` > 0.
    pub fn evaluation_weights(&self) -> Result<NamedTensors> {
        match &self.ema {
            Some(ema) => self.parameters.all_views(&ema.values, &ema.statistics),
            None => self.parameters.all_views(&self.parameters.values, &self.parameters.statistics),
        }
    }

    /// Predicts `images` with the evaluation weights; `None` if `should_stop` returned true.
    pub fn predict_interruptible(
        &mut self,
        images: &DeviceImages,
        should_stop: impl Fn() -> bool,
    ) -> Result<Option<Predictions>> {
        let Some(ema) = &mut self.ema else { return predict_interruptible(&self.net, images, should_stop) };
        ema.swap(&mut self.parameters)?;
        let predictions = predict_interruptible(&self.net, images, should_stop);
        ema.swap(&mut self.parameters)?;
        predictions
    }

    /// Tensors of network, optimizer and EMA as `last.safetensors` holds them.
    pub fn all_tensors(&self) -> Result<NamedTensors> {
        let mut all = self.parameters.all_views(&self.parameters.values, &self.parameters.statistics)?;
        if self.ema.is_some() {
            all.extend(self.evaluation_weights()?.into_iter().map(|(name, view)| (format!("{EMA}.{name}"), view)));
        }
        for (slot, flat) in self.optimizer.state() {
            all.extend(
                self.parameters
                    .views(flat)?
                    .into_iter()
                    .map(|(name, view)| (format!("{OPTIMIZER}.{slot}.{name}"), view)),
            );
        }
        Ok(all)
    }

    /// Loads tensors returned by [`all_tensors`](Self::all_tensors).
    ///
    /// # Errors
    /// The name of the first tensor that is missing or has another shape.
    pub fn load(&mut self, tensors: NamedTensors) -> Result<()> {
        let (weights, others): (NamedTensors, NamedTensors) =
            tensors.into_iter().partition(|(name, _)| is_network_tensor(name));
        self.net.load_state_dict(&weights)?;
        let mut views = Vec::new();
        for (slot, flat) in self.optimizer.state() {
            let slot_views = self.parameters.views(flat)?.into_iter();
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

    /// Seeds libtorch's generator (dropout) from seed, epoch and step.
    #[allow(clippy::disallowed_methods)]
    fn seed_libtorch(&self, epoch: u32, step: u64) {
        let key = Rng::new(&[Stream::Step as u64, self.seed, u64::from(epoch), step]).next_u64();
        tch::manual_seed((key >> 1) as i64);
    }
}
