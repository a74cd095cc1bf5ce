//! Parameters as views of one flat tensor, and their gradients as views of another.
//!
//! An optimizer step is then a few operations on two tensors for any number of layers, gradient
//! clipping one norm, and an EMA update one `lerp`.

use anyhow::Result;
use tch::{Kind, Tensor};
use torch_ext::fused;

use super::layers::BatchNorm;
use super::statistics_correction::StatisticsCorrection;
use super::{NamedTensor, Net, channels_last_view};
use crate::device::ProcessGroup;

/// Alignment of a view in float32 elements: 64 bytes, a cache line.
const ALIGNMENT: usize = 16;

/// Sums of a step that are added up with the gradients: loss and correct predictions.
pub const STEP_SUMS: i64 = 2;

/// Flat tensors that store a network's parameters, gradients and running statistics.
#[derive(Debug)]
pub struct FlatParameters {
    /// Parameters, float32 [padded size].
    pub values: Tensor,
    /// Gradients, float32 `[trained]`.
    pub gradients: Tensor,
    /// Number of leading elements subject to weight decay. Convolution and dense weights come
    /// first, biases and norms after them.
    pub decayed: i64,
    /// Number of leading elements that are trained. Frozen parameters come last.
    pub trained: i64,
    /// Running statistics of batch norms, float32 [padded size]; empty without batch norms.
    pub statistics: Tensor,
    /// What processes add up in one call: [`gradients`](Self::gradients), [`STEP_SUMS`] sums of the
    /// step, and room for [`statistics`](Self::statistics).
    summed: Tensor,
    layout: Vec<Segment>,
    statistics_layout: Vec<Segment>,
    /// Number of leading segments that are trained.
    trained_segments: usize,
    /// The network's own handles, in the order of the layouts.
    parameter_handles: Vec<Tensor>,
    statistics_handles: Vec<Tensor>,
    /// How gradients are computed and in which dtype.
    backward: Backward,
}

/// How a training step computes gradients.
#[derive(Debug)]
enum Backward {
    /// libtorch adds each gradient to its view of the flat tensor.
    Accumulate,
    /// The gradients of all parameters are copied into the flat tensor at once, and in bfloat16
    /// the network computes with a copy of the weights that is made once a step: few launches on a
    /// GPU.
    Fused {
        /// bfloat16 copy of [`FlatParameters::values`], if training uses it.
        half: Option<Tensor>,
        /// Views of [`FlatParameters::gradients`], in the order of the layout.
        targets: Vec<Tensor>,
        /// float32 scalar with value 1: the gradient of the loss.
        one: Tensor,
        statistics: StatisticsCorrection,
    },
}

/// Where a tensor is in a flat tensor.
#[derive(Debug)]
pub struct Segment {
    /// Name of the tensor.
    pub name: String,
    /// Its first element; the next segment begins after its last one, aligned.
    pub start: i64,
    /// Its shape.
    pub shape: Vec<i64>,
}

impl FlatParameters {
    /// Moves the parameters and running statistics of `net` into flat tensors on its device. The
    /// network uses them from then on; its convolution weights get the channels-last memory format.
    /// Training computes in `kind`, float32 or bfloat16.
    pub fn new(net: &Net, kind: Kind) -> Result<Self> {
        Self::with_backward(net, kind, net.device().is_cuda())
    }

    fn with_backward(net: &Net, kind: Kind, fused: bool) -> Result<Self> {
        let (mut parameters, mut statistics): (Vec<NamedTensor>, Vec<NamedTensor>) =
            net.named_tensors().into_iter().partition(|named| named.trainable);
        let is_decayed = |named: &NamedTensor| named.tensor.dim() > 1;
        parameters.sort_by_key(|named| (named.frozen, !is_decayed(named)));
        let is_trained = |named: &&NamedTensor| !named.frozen;
        let (layout, size) = flat_layout(&parameters);
        let (statistics_layout, statistics_size) = flat_layout(&statistics);
        let (trained_layout, trained) = flat_layout(parameters.iter().filter(is_trained));
        let decayed = flat_layout(parameters.iter().filter(is_trained).filter(|named| is_decayed(named))).1;
        let options = (Kind::Float, net.device());
        let summed = Tensor::f_zeros([trained + STEP_SUMS + statistics_size], options)?;
        let mut flat = Self {
            values: Tensor::f_zeros([size], options)?,
            gradients: summed.f_narrow(0, 0, trained)?,
            summed,
            decayed,
            trained,
            statistics: Tensor::f_zeros([statistics_size], options)?,
            layout,
            statistics_layout,
            trained_segments: trained_layout.len(),
            parameter_handles: parameters.iter().map(|named| named.tensor.shallow_clone()).collect(),
            statistics_handles: statistics.iter().map(|named| named.tensor.shallow_clone()).collect(),
            backward: Backward::Accumulate,
        };
        move_into(&mut parameters, &flat.layout, &flat.values)?;
        move_into(&mut statistics, &flat.statistics_layout, &flat.statistics)?;
        if fused {
            net.batch_norms().into_iter().for_each(BatchNorm::defer_correction);
            let half = if kind == Kind::BFloat16 { Some(flat.values.f_to_dtype(kind, false, true)?) } else { None };
            let targets = flat.trained_views(&flat.gradients)?.into_iter().map(|(_, view)| view).collect();
            let one = Tensor::f_ones([0i64; 0], options)?;
            flat.backward = Backward::Fused { half, targets, one, statistics: StatisticsCorrection::default() };
            flat.use_training_weights()?;
            return Ok(flat);
        }
        // Gradients exist only after a backward pass; after one, their data can be replaced by
        // views.
        let trained: Vec<&NamedTensor> = parameters.iter().filter(is_trained).collect();
        let sum = trained.iter().map(|named| named.tensor.f_sum(Kind::Float)).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_stack(&sum, 0)?.f_sum(Kind::Float)?.f_backward()?;
        for (named, segment) in trained.iter().zip(&flat.layout) {
            named.tensor.f_grad()?.f_set_data(&segment.view(&flat.gradients)?)?;
        }
        Ok(flat)
    }

    /// Makes the network compute with `values` and `statistics`, float32 in the layouts of
    /// [`values`](Self::values) and [`statistics`](Self::statistics). Nothing is copied.
    pub fn use_weights(&self, values: &Tensor, statistics: &Tensor) -> Result<()> {
        let bind = |handles: &[Tensor], layout: &[Segment], flat: &Tensor| -> Result<()> {
            for (handle, segment) in handles.iter().zip(layout) {
                handle.shallow_clone().f_set_data(&segment.view(flat)?)?;
            }
            Ok(())
        };
        bind(&self.parameter_handles, &self.layout, values)?;
        bind(&self.statistics_handles, &self.statistics_layout, statistics)
    }

    /// Makes the network compute as in training: with the weights that the optimizer updates, or
    /// with their bfloat16 copy. Norms compute with float32 parameters in either case.
    pub fn use_training_weights(&self) -> Result<()> {
        self.use_weights(&self.values, &self.statistics)?;
        let Backward::Fused { half: Some(half), .. } = &self.backward else { return Ok(()) };
        for (handle, segment) in self.parameter_handles.iter().zip(&self.layout) {
            if !self.is_of_norm(segment) {
                handle.shallow_clone().f_set_data(&segment.view(half)?)?;
            }
        }
        Ok(())
    }

    /// Whether a parameter is one of a norm, which has running statistics beside it.
    fn is_of_norm(&self, segment: &Segment) -> bool {
        let path = segment.name.rsplit_once('.').map_or("", |(path, _)| path);
        self.statistics_layout.iter().any(|buffer| buffer.name.strip_suffix(".running_mean") == Some(path))
    }

    /// Prepares a forward pass in training: zeroes the gradients, or copies weights and statistics.
    pub fn begin_step(&mut self) -> Result<()> {
        match &mut self.backward {
            Backward::Accumulate => drop(self.gradients.f_zero_()?),
            Backward::Fused { half, statistics, .. } => tch::no_grad(|| -> Result<()> {
                if let Some(half) = half {
                    half.f_copy_(&self.values)?;
                }
                statistics.remember(&self.statistics)
            })?,
        }
        Ok(())
    }

    /// Computes [`gradients`](Self::gradients) of `loss`, and completes the running statistics of
    /// the forward pass through `net`.
    pub fn compute_gradients(&mut self, net: &Net, loss: &Tensor) -> Result<()> {
        let Backward::Fused { targets, one, statistics, .. } = &mut self.backward else {
            return Ok(loss.f_backward()?);
        };
        let trained = self.parameter_handles.get(..self.trained_segments).unwrap_or(&self.parameter_handles);
        let gradients = fused::gradients(loss, one, trained)?;
        // A copy is one launch for targets and sources of one dtype each.
        for kind in [Kind::BFloat16, Kind::Float] {
            let pairs = targets.iter().zip(&gradients).filter(|(_, gradient)| gradient.kind() == kind);
            let (targets, sources): (Vec<&Tensor>, Vec<&Tensor>) = pairs.unzip();
            fused::copy_all(&targets, &sources)?;
        }
        tch::no_grad(|| statistics.apply(&mut self.statistics, &self.statistics_layout, net))
    }

    /// Replaces [`gradients`](Self::gradients) and `sums`, float32 scalars, by their sums over the
    /// processes of `group`, and with `statistics_weight` the running statistics by the sum of those of
    /// all processes times their weights. Without `counts`, those of this process are 0.
    pub fn all_reduce(
        &mut self,
        group: &ProcessGroup,
        sums: &[Tensor],
        statistics_weight: Option<f64>,
        counts: bool,
    ) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
            let part = |start: i64, length: i64| self.summed.f_narrow(0, start, length);
            let (mut own, statistics) =
                (part(self.trained, STEP_SUMS)?, part(self.trained + STEP_SUMS, self.statistics.size1()?)?);
            own.f_copy_(&Tensor::f_stack(sums, 0)?)?;
            let mut all = part(0, self.trained + STEP_SUMS)?;
            if let Some(weight) = statistics_weight {
                statistics.shallow_clone().f_copy_(&self.statistics.f_mul_scalar(weight)?)?;
                all = self.summed.shallow_clone();
            }
            if !counts {
                let _ = all.f_zero_()?;
            }
            group.all_reduce(&mut all)?;
            if statistics_weight.is_some() {
                self.statistics.f_copy_(&statistics)?;
            }
            Ok(own.f_unbind(0)?)
        })
    }

    /// Writes a value other than 0 to `mark`, float32 `[1]` with value 0, if any gradient is NaN or
    /// infinite.
    pub fn mark_nonfinite(&self, mark: &Tensor) -> Result<()> {
        match &self.backward {
            // 0 times a sum that is not finite is NaN.
            Backward::Accumulate => {
                let sum = self.gradients.f_sum(Kind::Float)?.f_mul_scalar(0.0)?;
                Ok(mark.shallow_clone().f_copy_(&sum.f_view([1])?)?)
            }
            Backward::Fused { one, .. } => fused::mark_nonfinite(&self.gradients, mark, &one.f_view([1])?),
        }
    }

    /// Clips the L2 norm of all gradients to `max_norm`, without waiting for the device; 0 disables
    /// clipping (`torch.nn.utils.clip_grad_norm_`).
    pub fn clip_gradients(&mut self, max_norm: f64) -> Result<()> {
        if max_norm > 0.0 {
            let norm = self.gradients.f_norm()?;
            let factor = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?;
            let _ = self.gradients.f_mul_(&factor)?;
        }
        Ok(())
    }

    /// Views of `flat`, a tensor in the layout of [`values`](Self::values), by parameter name.
    pub fn views(&self, flat: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.layout.iter().map(|segment| Ok((segment.name.clone(), segment.view(flat)?))).collect()
    }

    /// Views of `flat`, a tensor in the layout of [`gradients`](Self::gradients) such as an
    /// optimizer's moments, by the names of the trained parameters.
    pub fn trained_views(&self, flat: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.trained_segments().map(|segment| Ok((segment.name.clone(), segment.view(flat)?))).collect()
    }

    /// The leading elements of a tensor in the layout of [`values`](Self::values) that are trained.
    pub fn trained_part(&self, flat: &Tensor) -> Result<Tensor> {
        Ok(flat.f_narrow(0, 0, self.trained)?)
    }

    /// Where the trained parameters are in the flat tensors, in order.
    pub fn trained_segments(&self) -> impl Iterator<Item = &Segment> {
        self.layout.iter().take(self.trained_segments)
    }

    /// Views of `values` and `statistics`, such as their EMA, by name and sorted by it like
    /// [`Net::named_tensors`].
    pub fn all_views(&self, values: &Tensor, statistics: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut all = self.views(values)?;
        for segment in &self.statistics_layout {
            all.push((segment.name.clone(), segment.view(statistics)?));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

/// Places `tensors` one after another, aligned; returns their segments and the total size.
fn flat_layout<'a>(tensors: impl IntoIterator<Item = &'a NamedTensor>) -> (Vec<Segment>, i64) {
    let mut size = 0;
    let mut append = |named: &NamedTensor| {
        let start = size;
        size += (named.tensor.numel().div_ceil(ALIGNMENT) * ALIGNMENT) as i64;
        Segment { name: named.name.clone(), start, shape: named.tensor.size() }
    };
    let layout = tensors.into_iter().map(&mut append).collect();
    (layout, size)
}

/// Copies each tensor into its segment of `flat` and makes it a view of that segment.
fn move_into(tensors: &mut [NamedTensor], layout: &[Segment], flat: &Tensor) -> Result<()> {
    for (named, segment) in tensors.iter_mut().zip(layout) {
        let mut view = segment.view(flat)?;
        tch::no_grad(|| view.f_copy_(&named.tensor))?;
        named.tensor.f_set_data(&view)?;
    }
    Ok(())
}

impl Segment {
    /// Views this segment of `flat` in the tensor's shape; convolution weights as channels-last.
    fn view(&self, flat: &Tensor) -> Result<Tensor> {
        channels_last_view(&flat.f_narrow(0, self.start, self.shape.iter().product())?, &self.shape)
    }
}

#[cfg(test)]
impl FlatParameters {
    /// Computes gradients as on a GPU.
    pub fn for_fused_tests(net: &Net, kind: Kind) -> Result<Self> {
        Self::with_backward(net, kind, true)
    }

    /// Creates parameters without a network: the first `decayed` of them, an even number, are two
    /// rows of weights, and the others are biases.
    pub fn for_tests(values: &[f32], decayed: i64) -> Self {
        let values = Tensor::from_slice(values);
        let segment = |name: &str, start, shape| Segment { name: format!("layer.{name}"), start, shape };
        let biases = values.numel() as i64 - decayed;
        let weights = segment("weight", 0, vec![2, decayed / 2]);
        let layout: Vec<Segment> = [weights, segment("bias", decayed, vec![biases])].into();
        Self {
            gradients: values.zeros_like(),
            summed: values.zeros_like(),
            statistics: values.narrow(0, 0, 0),
            trained: values.numel() as i64,
            values,
            decayed,
            trained_segments: layout.len(),
            layout,
            statistics_layout: Vec::new(),
            parameter_handles: Vec::new(),
            statistics_handles: Vec::new(),
            backward: Backward::Accumulate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `clip_grad_norm_`: gradients * min(1, max_norm / (norm + 1e-6)).
    #[test]
    fn clipping_bounds_the_gradient_norm() {
        for (max_norm, expected) in [(0.0, [3.0, -4.0]), (10.0, [3.0, -4.0]), (1.0, [0.6, -0.8])] {
            let mut flat = FlatParameters::for_tests(&[0.0, 0.0], 2);
            flat.gradients.copy_(&Tensor::from_slice(&[3.0f32, -4.0]));
            flat.clip_gradients(max_norm).unwrap();
            let clipped = Vec::<f32>::try_from(&flat.gradients).unwrap();
            assert!(clipped.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{clipped:?}");
        }
    }
}
