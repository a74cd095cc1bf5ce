//! Parameters as views of one flat tensor, and their gradients as views of another.
//!
//! An optimizer step is then a few operations on two tensors for any number of layers, gradient
//! clipping one norm, and an EMA update one `lerp`.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::{NamedTensor, Net};

/// Alignment of a view in float32 elements: 64 bytes, a cache line.
const ALIGNMENT: usize = 16;

/// Flat tensors that store a network's parameters, gradients and running statistics.
#[derive(Debug)]
pub struct FlatParameters {
    /// Parameters, float32 [padded size].
    pub values: Tensor,
    /// Gradients, float32 [padded size].
    pub gradients: Tensor,
    /// Number of leading elements subject to weight decay. Convolution and dense weights come
    /// first, biases and norms last.
    pub decayed: i64,
    /// Running statistics of batch norms, float32 [padded size]; empty without batch norms.
    pub statistics: Tensor,
    layout: Vec<Segment>,
    statistics_layout: Vec<Segment>,
}

/// Where a tensor is in a flat tensor.
#[derive(Debug)]
struct Segment {
    name: String,
    start: i64,
    shape: Vec<i64>,
}

impl FlatParameters {
    /// Moves the parameters and running statistics of `net` into flat tensors on its device. The
    /// network uses them from then on; its convolution weights get the channels-last memory format.
    pub fn new(net: &Net) -> Result<Self> {
        let (mut parameters, mut statistics): (Vec<NamedTensor>, Vec<NamedTensor>) =
            net.named_tensors().into_iter().partition(|named| named.trainable);
        let is_decayed = |named: &NamedTensor| named.tensor.dim() > 1;
        parameters.sort_by_key(|named| !is_decayed(named));
        let (layout, size) = flat_layout(&parameters);
        let (statistics_layout, statistics_size) = flat_layout(&statistics);
        let decayed = flat_layout(parameters.iter().filter(|named| is_decayed(named))).1;
        let options = (Kind::Float, net.device());
        let flat = Self {
            values: Tensor::f_zeros([size], options)?,
            gradients: Tensor::f_zeros([size], options)?,
            decayed,
            statistics: Tensor::f_zeros([statistics_size], options)?,
            layout,
            statistics_layout,
        };
        move_into(&mut parameters, &flat.layout, &flat.values)?;
        move_into(&mut statistics, &flat.statistics_layout, &flat.statistics)?;
        // Gradients exist only after a backward pass; after one, their data can be replaced by
        // views.
        let sum = parameters.iter().map(|named| named.tensor.f_sum(Kind::Float)).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_stack(&sum, 0)?.f_sum(Kind::Float)?.f_backward()?;
        for (named, segment) in parameters.iter_mut().zip(&flat.layout) {
            named.tensor.f_grad()?.f_set_data(&segment.view(&flat.gradients)?)?;
        }
        Ok(flat)
    }

    /// Sets all gradients to zero, in place.
    pub fn zero_gradients(&mut self) -> Result<()> {
        let _ = self.gradients.f_zero_()?;
        Ok(())
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

    /// Views of `flat`, a tensor in the layout of [`values`](Self::values) such as an optimizer's
    /// moments, by parameter name.
    pub fn views(&self, flat: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.layout.iter().map(|segment| Ok((segment.name.clone(), segment.view(flat)?))).collect()
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
        let part = flat.f_narrow(0, self.start, self.shape.iter().product())?;
        Ok(match self.shape[..] {
            [output, input, height, width] => part.f_view([output, height, width, input])?.f_permute([0, 3, 1, 2])?,
            _ => part.f_view(&self.shape[..])?,
        })
    }
}

#[cfg(test)]
impl FlatParameters {
    /// Creates parameters without a network, the first `decayed` of them subject to weight decay.
    pub fn for_tests(values: &[f32], decayed: i64) -> Self {
        let values = Tensor::from_slice(values);
        Self {
            gradients: values.zeros_like(),
            statistics: values.narrow(0, 0, 0),
            values,
            decayed,
            layout: Vec::new(),
            statistics_layout: Vec::new(),
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
