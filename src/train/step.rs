//! One training step: pick, augment, forward, loss, backward, update. Nothing is read back from the device.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::batch::{self, Input};
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

/// A network in training, with everything that a step needs on one device.
#[derive(Debug)]
pub struct Trainer {
    /// The network.
    pub net: Net,
    parameters: FlatParameters,
    optimizer: Optimizer,
    /// What is validated and kept as best, where `train.ema` is on.
    ema: Option<Ema>,
    loss: Loss,
    /// Greatest norm of all gradients together; 0: any.
    clip_norm: f64,
    images: DeviceImages,
    /// Number format of forward and backward.
    kind: Kind,
    seed: u64,
    /// Edge of the images of the epoch, in pixels.
    side: usize,
    /// float32 `[steps]`: the loss of each step of the epoch, filled on the device.
    losses: Tensor,
    /// float32 `[steps]`: the sum of all gradients of each step, finite where all of them are.
    gradient_sums: Tensor,
    /// int64 `[steps]`: correct predictions of each step.
    correct: Tensor,
    /// Steps whose losses and correct have been read back.
    collected: u64,
    /// Where the time goes, when somebody asked.
    pub profile: Option<Profile>,
}

/// What is not a finite number any more, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonFinite {
    /// In words, with its verb.
    pub what: &'static str,
    /// Step of the epoch, from 1.
    pub step: u64,
}

/// The prefix of optimizer tensors in a checkpoint.
const OPTIMIZER: &str = "optimizer";
/// The prefix of averaged tensors in a checkpoint.
const EMA: &str = "ema";

/// The name within the part of a checkpoint that has `prefix`.
fn within<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// Whether a tensor of a checkpoint belongs to the network in training, not to the optimizer or the ema.
pub fn is_weight(name: &str) -> bool {
    [OPTIMIZER, EMA].iter().all(|prefix| within(name, prefix).is_none())
}

/// The weights that count among the tensors of `last.safetensors`: the averaged ones, where there are any.
pub fn evaluation_weights(tensors: &NamedTensors) -> NamedTensors {
    let own = |(name, tensor): &(String, Tensor)| Some((within(name, EMA)?.to_owned(), tensor.shallow_clone()));
    let averaged: NamedTensors = tensors.iter().filter_map(own).collect();
    if averaged.is_empty() {
        let weights = tensors.iter().filter(|(name, _)| is_weight(name));
        return weights.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    }
    averaged
}

impl Trainer {
    /// Gets a fresh network ready to train on `images` as `config` says, computing in `kind`; an epoch has `steps`.
    ///
    /// # Errors
    /// libtorch's, such as a device that has too little memory.
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
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(&mut self, plan: &EpochSchedule, epoch: u32, step: u64, lr: f64) -> Result<()> {
        self.seed_libtorch(epoch, step);
        let Input { x, targets, answers } = batch::of(&self.images, &plan.batch(step)?, self.kind, self.net.classes())?;
        let x = resize(x, self.side)?;
        self.lap(Phase::Input);
        let logits = self.net.forward(&x, Mode::Train)?.f_to_dtype(Kind::Float, false, false)?;
        let loss = self.loss.of(&logits, &targets)?;
        self.lap(Phase::Forward);
        self.parameters.zero_gradients()?;
        loss.f_backward()?;
        let place = i64::try_from(step)?;
        // Before the update: SGD's weight decay is added to the gradients.
        let sum = self.parameters.gradients.f_sum(Kind::Float)?;
        self.parameters.clip_gradients(self.clip_norm)?;
        self.lap(Phase::Backward);
        let number = u64::from(epoch) * plan.steps() + step + 1;
        self.optimizer.step(&mut self.parameters, lr, number)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.parameters, number)?;
        }
        self.lap(Phase::Update);

        tch::no_grad(|| -> Result<()> {
            self.gradient_sums.f_narrow(0, place, 1)?.f_copy_(&sum.f_view([1])?)?;
            self.losses.f_narrow(0, place, 1)?.f_copy_(&loss.f_detach()?.f_view([1])?)?;
            let right = logits.f_detach()?.f_argmax(-1, false)?.f_eq_tensor(&answers)?.f_sum(Kind::Int64)?;
            self.correct.f_narrow(0, place, 1)?.f_copy_(&right.f_view([1])?)?;
            Ok(())
        })
    }

    /// Reads back loss and correct of the steps up to `state.step` that have not been read yet, and adds them to `state`;
    /// the first of them whose loss or gradients are not finite, if any. Waits for the device.
    ///
    /// # Errors
    /// libtorch's.
    pub fn collect(&mut self, plan: &EpochSchedule, state: &mut State) -> Result<Option<NonFinite>> {
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
            state.loss_sum += f64::from(loss) * plan.images(step) as f64;
            state.correct += correct;
        }
        self.collected = state.step;
        Ok(None)
    }

    /// Whether every weight and all of the optimizer's state is finite: what must hold of a checkpoint to go back to.
    ///
    /// # Errors
    /// libtorch's.
    pub fn is_finite(&self) -> Result<bool> {
        let weights = [&self.parameters.values, &self.parameters.statistics];
        let emas = self.ema.iter().flat_map(|ema| [&ema.values, &ema.statistics]);
        let state = self.optimizer.state().map(|(_, flat)| flat);
        let sums =
            weights.into_iter().chain(emas).chain(state).map(|tensor| Ok(tensor.f_detach()?.f_isfinite()?.f_all()?));
        let all = Tensor::f_stack(&sums.collect::<Result<Vec<_>>>()?, 0)?.f_all()?;
        Ok(bool::try_from(all)?)
    }

    /// Charges the time since the last call to `phase`, when a profile is wanted.
    pub fn lap(&mut self, phase: Phase) {
        if let Some(profile) = &mut self.profile {
            profile.lap(phase);
        }
    }

    /// Begins an epoch at `step`: 0, or where a resumed run goes on. Its images are `side` x `side` pixels.
    pub fn begin_epoch(&mut self, step: u64, side: usize) {
        self.collected = step;
        self.side = side;
    }

    /// The weights that count, averaged where they are, as `best.safetensors` holds them: sorted by name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn evaluation_weights(&self) -> Result<NamedTensors> {
        match &self.ema {
            Some(ema) => self.parameters.all_views(&ema.values, &ema.statistics),
            None => self.parameters.all_views(&self.parameters.values, &self.parameters.statistics),
        }
    }

    /// What the network makes of `images` with the weights that count, see [`Predictions::unless`].
    ///
    /// # Errors
    /// libtorch's.
    pub fn predictions_unless(
        &mut self,
        images: &DeviceImages,
        stops: impl Fn() -> bool,
    ) -> Result<Option<Predictions>> {
        let Some(ema) = &mut self.ema else { return predict_interruptible(&self.net, images, stops) };
        ema.exchange(&mut self.parameters)?;
        let predictions = predict_interruptible(&self.net, images, stops);
        ema.exchange(&mut self.parameters)?;
        predictions
    }

    /// The network's tensors, the optimizer's and the ema, as `last.safetensors` holds them.
    ///
    /// # Errors
    /// libtorch's.
    pub fn all_tensors(&self) -> Result<NamedTensors> {
        let mut all = self.parameters.all_views(&self.parameters.values, &self.parameters.statistics)?;
        if self.ema.is_some() {
            let averaged = self.evaluation_weights()?;
            all.extend(averaged.into_iter().map(|(name, view)| (format!("{EMA}.{name}"), view)));
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

    /// Takes over what [`all_tensors`](Self::all_tensors) gave.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, naming it.
    pub fn load(&mut self, tensors: NamedTensors) -> Result<()> {
        let (weights, others): (NamedTensors, NamedTensors) =
            tensors.into_iter().partition(|(name, _)| is_weight(name));
        self.net.load(&weights)?;
        let mut views = Vec::new();
        for (slot, flat) in self.optimizer.state() {
            let own = self.parameters.views(flat)?.into_iter();
            views.extend(own.map(|(name, view)| (format!("{OPTIMIZER}.{slot}.{name}"), view)));
        }
        if let Some(ema) = &self.ema {
            let own = self.parameters.all_views(&ema.values, &ema.statistics)?.into_iter();
            views.extend(own.map(|(name, view)| (format!("{EMA}.{name}"), view)));
        }
        for (name, mut view) in views {
            let (_, value) =
                others.iter().find(|(n, _)| *n == name).with_context(|| format!("it holds no tensor {name}"))?;
            if value.size() != view.size() {
                let (found, own) = (value.size(), view.size());
                anyhow::bail!("tensor {name} has shape {found:?}; this architecture has {own:?}");
            }
            tch::no_grad(|| view.f_copy_(value))?;
        }
        Ok(())
    }

    /// Makes whatever libtorch params in this step (dropout) follow from seed, epoch and step.
    #[allow(clippy::disallowed_methods)]
    fn seed_libtorch(&self, epoch: u32, step: u64) {
        let key = Rng::new(&[Stream::Step as u64, self.seed, u64::from(epoch), step]).next_u64();
        tch::manual_seed((key >> 1) as i64);
    }
}
