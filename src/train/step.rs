//! One training step: gather, augment, forward, loss, backward, update. Nothing is read back from
//! the device.

use std::sync::Arc;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};
use torch_ext::cuda::Tf32;

use super::batch::TrainingBatch;
use super::epoch_schedule::{EpochPlan, EpochSchedule};
use super::partition::{Part, select_rows};
use super::profile::{Phase, Profile};
use super::step_graphs::{GraphStep, StepGraphs, StepOutcome};
use super::step_position::StepPosition;
use super::step_results::{Collected, StepResults};
use crate::config::TrainConfig;
use crate::data::device_images::DeviceImages;
use crate::data::image_stream::ImageStream;
use crate::data::images::SIDE;
use crate::device::{Placement, ProcessGroup};
use crate::inference::forward::{predict_in_group, predict_interruptible};
use crate::metrics::predictions::Predictions;
use crate::model::shard::Shard;
use crate::model::{FlatParameters, Mode, Net};
use crate::optim::ema::Ema;
use crate::optim::loss::Loss;
use crate::optim::optimizer::Optimizer;
use crate::run_dir::checkpoint::State;
use crate::transforms::resize::ImageSize;
use crate::util::rng::{Rng, Stream};
use crate::util::signals::Signals;

/// A network in training, with all that a step needs on one device.
#[derive(Debug)]
pub struct Trainer {
    /// The network.
    pub net: Net,
    pub(super) parameters: FlatParameters,
    pub(super) optimizer: Optimizer,
    /// EMA weights, which are validated and saved as best, if `train.ema` > 0.
    pub(super) ema: Option<Ema>,
    loss: Loss,
    /// Maximum global gradient norm; 0 disables clipping.
    clip_norm: f64,
    images: DeviceImages,
    /// Precision of forward and backward pass.
    kind: Kind,
    /// Whether float32 is computed in TF32.
    tf32: bool,
    seed: u64,
    /// Size of the images of the epoch.
    size: ImageSize,
    /// The images of the next steps, if they are on the host.
    stream: Option<ImageStream>,
    /// The schedule of the epoch; `None` before the first.
    schedule: Option<EpochSchedule>,
    results: StepResults,
    /// Number of steps whose results have been read back.
    collected: u64,
    /// Steps as CUDA graphs, if they are on.
    graphs: Option<StepGraphs>,
    /// The processes that train together.
    pub(super) group: Option<Arc<ProcessGroup>>,
    /// Whether batch norms use the statistics of the batch of all processes.
    sync_norms: bool,
    /// Lines for the log.
    notes: Vec<String>,
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

impl Trainer {
    /// Prepares a network for training on `images` as in `placement`, in epochs of `plan`. Layers
    /// to freeze are frozen already, see [`Net::freeze`].
    ///
    /// # Errors
    /// If the device has too little memory.
    pub fn new(
        net: Net,
        images: DeviceImages,
        config: &TrainConfig,
        placement: &Placement,
        seed: u64,
        plan: EpochPlan,
    ) -> Result<Self> {
        torch_ext::keep_memory();
        let (kind, device) = (placement.kind, placement.device);
        let graphs = match device {
            Device::Cuda(index) if config.cuda_graph.is_on() && images.on_host().is_none() => {
                Some(StepGraphs::new(index)?)
            }
            _ => None,
        };
        let ignored = config.cuda_graph.is_on() && graphs.is_none();
        let notes = ignored.then(|| {
            let reason =
                if device.is_cuda() { "the images are on the host" } else { "the device is not a CUDA device" };
            format!("warning: CUDA graphs are not used: {reason}")
        });
        let parameters = FlatParameters::new(&net, kind)?;
        let mut optimizer = Optimizer::new(&config.optimizer, &parameters)?;
        if config.layer_decay < 1.0 {
            let factor = |name: &str| net.layers().learning_rate_factor(config.layer_decay, name);
            optimizer = optimizer.with_factors(&parameters, factor)?;
        }
        let ema = if config.ema > 0.0 { Some(Ema::new(&parameters)?) } else { None };
        let counts = images.class_counts(net.classes())?;
        let loss = Loss::new(config.label_smoothing, &config.class_weights, &counts, device)?;
        let results = StepResults::new(plan, net.classes(), device)?;
        Ok(Self {
            net,
            parameters,
            optimizer,
            ema,
            loss,
            clip_norm: config.clip_norm,
            images,
            kind,
            tf32: placement.tf32,
            seed,
            size: ImageSize { side: SIDE, method: config.progressive.method },
            stream: None,
            schedule: None,
            results,
            collected: 0,
            graphs,
            group: None,
            sync_norms: config.sync_batch_norm,
            notes: notes.into_iter().collect(),
            profile: None,
        })
    }

    /// Computes only the part of this process of each batch, if there is a group.
    pub fn use_group(&mut self, group: Option<Arc<ProcessGroup>>) -> Result<()> {
        if group.is_some() {
            self.results.use_sums()?;
            if self.graphs.take().is_some() {
                self.notes.push("warning: CUDA graphs are not used: several processes train together".into());
            }
        }
        self.group = group;
        Ok(())
    }

    /// The part of this process of `step`; `None` without a group.
    fn part(&self, step: u64) -> Result<Option<Part>> {
        let Some(group) = &self.group else { return Ok(None) };
        Ok(Some(Part::new(self.schedule()?.plan().images(step), group.rank(), group.size())))
    }

    /// Starts an epoch at `step`, 0 unless the run is resumed in it, with images of `side` x `side`
    /// pixels.
    pub fn begin_epoch(&mut self, mut schedule: EpochSchedule, step: u64, side: usize) -> Result<()> {
        self.stream = match (self.images.on_host(), schedule.take_host_order()) {
            (Some(pixels), Some(order)) => {
                let (batch, device) = (schedule.plan().batch(), self.images.device());
                let place = self.group.as_ref().map(|group| (group.rank(), group.size()));
                let is_mixed = schedule.is_mixed();
                let select = move |rows: &[i64]| select_rows(rows, place, is_mixed);
                Some(ImageStream::start(pixels.clone(), order, batch, step, device, select)?)
            }
            _ => None,
        };
        self.collected = step;
        self.size.side = side;
        self.results.begin_epoch()?;
        match (&mut self.graphs, &mut self.schedule) {
            (Some(graphs), Some(own)) => {
                own.overwrite(schedule)?;
                graphs.begin_epoch(step, side)
            }
            (Some(graphs), None) => {
                self.schedule = Some(schedule);
                graphs.begin_epoch(step, side)
            }
            (None, _) => {
                self.schedule = Some(schedule);
                Ok(())
            }
        }
    }

    /// Runs `step` (from 0) of `epoch` (from 0).
    pub fn step(&mut self, epoch: u32, step: u64) -> Result<()> {
        let host = StepPosition::Host(i64::try_from(step)?);
        // Taken out, because a graph's step borrows the trainer.
        if let Some(mut graphs) = self.graphs.take() {
            let images = self.schedule()?.plan().images(step);
            let side = self.size.side;
            let problem = match graphs.run(images, side, &mut StepAt { trainer: self, epoch, step })? {
                StepOutcome::Done => {
                    self.graphs = Some(graphs);
                    return Ok(());
                }
                StepOutcome::Unusable(problem) => {
                    self.notes.push(format!("warning: CUDA graphs are not used: {problem}"));
                    return Ok(());
                }
                StepOutcome::NotRecorded(problem) => problem,
            };
            self.notes.push(format!("warning: CUDA graphs are not used: a step cannot be recorded: {problem}"));
        }
        self.seed_libtorch(epoch, step);
        self.compute(step, host)
    }

    /// The training images.
    pub fn images(&self) -> &DeviceImages {
        &self.images
    }

    /// Times the phases of each step. A CUDA graph has none, so there are no graphs then.
    pub fn start_profile(&mut self, profile: Profile) {
        self.profile = Some(profile);
        if self.graphs.take().is_some() {
            self.notes.push("warning: CUDA graphs are not used: --profile times the phases of a step".into());
        }
    }

    fn schedule(&self) -> Result<&EpochSchedule> {
        self.schedule.as_ref().context("no epoch has begun")
    }

    /// Lines for the log since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Computes `step`, whose data are at `position`.
    fn compute(&mut self, step: u64, position: StepPosition<'_>) -> Result<()> {
        let pixels = self.stream.as_mut().map(|stream| stream.take(step)).transpose()?;
        let (schedule, part) = (self.schedule()?, self.part(step)?);
        let scalars = schedule.scalars(step, position)?;
        let (batch, all_labels) = match part {
            Some(part) => schedule.part(step, part).map(|(batch, labels)| (batch, Some(labels)))?,
            None => (schedule.batch(step, position)?, None),
        };
        let is_mixed = schedule.is_mixed();
        let mut images = TrainingBatch::new(&self.images, pixels.as_ref(), &batch, self.kind, self.net.classes())?;
        if let Some(part) = part {
            images = images.first(part.len)?;
        }
        let TrainingBatch { x, targets, labels } = images;
        let x = self.size.apply(x)?.f_to_dtype(self.kind, false, false)?;
        self.lap(Phase::Input);
        let tf32 = self.tf32.then(Tf32::allow).transpose()?;
        self.parameters.begin_step()?;
        let shard = part.zip(self.group.as_ref()).and_then(|(part, group)| part.shard(group, self.sync_norms));
        let scope = Shard::enter(shard);
        let logits = self.net.forward(&x, Mode::Train)?.f_to_dtype(Kind::Float, false, false)?;
        drop(scope);
        let mut loss = match all_labels {
            Some(all) => self.loss.forward_part(&logits, &targets, &all)?,
            None => self.loss.forward(&logits, &targets)?,
        };
        self.lap(Phase::Forward);
        self.parameters.compute_gradients(&self.net, &loss)?;
        drop(tf32);
        let mut correct = None;
        if let (Some(part), Some(group)) = (part, &self.group) {
            let own = logits.f_detach()?.f_argmax(-1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Float)?;
            // Norms of a shard with the statistics of the batch have the same ones in every process.
            let is_same = part.is_shared && self.sync_norms;
            let weight = (!is_same).then(|| if part.is_shared { part.weight() } else { 1.0 });
            let sums = [loss.f_detach()?, own];
            let mut sums = self.parameters.all_reduce(group, &sums, weight, part.counts)?.into_iter();
            loss = sums.next().context("the loss was not summed")?;
            correct = sums.next();
        }
        // Before the update, which adds SGD's weight decay to the gradients.
        self.parameters.mark_nonfinite(&self.results.mark(position)?)?;
        self.parameters.clip_gradients(self.clip_norm)?;
        self.lap(Phase::Backward);
        self.optimizer.step(&mut self.parameters, &scalars)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.parameters, &scalars)?;
        }
        self.lap(Phase::Update);
        tch::no_grad(|| {
            if let Some(correct) = correct {
                return self.results.put_sums(i64::try_from(step)?, &loss, &correct);
            }
            let labels = is_mixed.then_some(&labels);
            self.results.put(step, position, &loss.f_detach()?, &logits.f_detach()?, labels)
        })
    }

    /// Reads back the losses and correct predictions of new steps up to `state.step` and adds them
    /// to `state`. Returns the first loss or gradient that is not finite. Waits for the device.
    pub fn collect(&mut self, state: &mut State) -> Result<Option<NonFinite>> {
        let schedule = self.schedule.as_ref().context("no epoch has begun")?;
        let (from, to) = (self.collected, state.step);
        if from >= to {
            return Ok(None);
        }
        let Collected { losses, gradient_marks, correct } = self.results.collect(from, to, schedule)?;
        for ((step, loss), mark) in (from..).zip(losses).zip(gradient_marks) {
            if !loss.is_finite() {
                return Ok(Some(NonFinite { what: "the loss is", step: step + 1 }));
            }
            if mark != 0.0 {
                return Ok(Some(NonFinite { what: "a gradient is", step: step + 1 }));
            }
            state.loss_sum += f64::from(loss) * schedule.plan().images(step) as f64;
        }
        state.correct += correct;
        self.collected = to;
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

    /// Predicts `images` with the evaluation weights, of a group all of them; the signal if one was
    /// received meanwhile.
    pub fn predict_interruptible(
        &mut self,
        images: &DeviceImages,
        signals: &Signals,
    ) -> Result<std::result::Result<Predictions, i32>> {
        let (values, statistics) = match &self.ema {
            Some(ema) => (&ema.values, &ema.statistics),
            None => (&self.parameters.values, &self.parameters.statistics),
        };
        self.parameters.use_weights(values, statistics)?;
        let predictions = match &self.group {
            Some(group) => {
                let stop = || Ok(group.agree(signals.received(), false)?.signal);
                predict_in_group(&self.net, images, group, stop)
            }
            None => predict_interruptible(&self.net, images, || signals.received().is_some()).and_then(|found| {
                let interrupted = || signals.received().context("validation was interrupted without a signal");
                found.map_or_else(|| interrupted().map(Err), |predictions| Ok(Ok(predictions)))
            }),
        };
        self.parameters.use_training_weights()?;
        predictions
    }

    /// Seeds libtorch's generator (dropout) from seed, epoch and step.
    #[allow(clippy::disallowed_methods)]
    fn seed_libtorch(&self, epoch: u32, step: u64) {
        let key = Rng::new(&[Stream::Step as u64, self.seed, u64::from(epoch), step]).next_u64();
        tch::manual_seed((key >> 1) as i64);
    }
}

/// A step of a [`Trainer`] for CUDA graphs.
struct StepAt<'a> {
    trainer: &'a mut Trainer,
    epoch: u32,
    step: u64,
}

impl GraphStep for StepAt<'_> {
    fn seed(&self) {
        self.trainer.seed_libtorch(self.epoch, self.step);
    }

    fn compute(&mut self, cursor: &Tensor) -> Result<()> {
        self.trainer.compute(self.step, StepPosition::Device(cursor))?;
        let _ = cursor.shallow_clone().f_add_scalar_(1)?;
        Ok(())
    }

    fn state(&self) -> Vec<Tensor> {
        let Trainer { parameters, optimizer, ema, results, .. } = &*self.trainer;
        let weights = [&parameters.values, &parameters.statistics];
        let averages = ema.iter().flat_map(|ema| [&ema.values, &ema.statistics]);
        let moments = optimizer.state().map(|(_, flat)| flat);
        let all = weights.into_iter().chain(averages).chain(moments).chain(results.tensors());
        all.map(Tensor::shallow_clone).collect()
    }
}
