//! All trainable parameters as views of one flat tensor, and all gradients as views of another.
//!
//! An optimizer is then a few operations on two tensors, however many layers there are; clipping is one norm, an average
//! of weights one `lerp`.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::{Named, Net};

/// Floats in 64 bytes: every view starts on a cache line of its own.
const ALIGNMENT: usize = 16;

/// The flat tensors behind a network's parameters.
#[derive(Debug)]
pub struct FlatParameters {
    /// float32 [padded size]; the network's parameters are views of it.
    pub values: Tensor,
    /// float32 [padded size]; their gradients are views of it.
    pub gradients: Tensor,
    /// How much of the front is subject to weight decay: convolution and dense weights come first, biases and norms last.
    pub decayed: i64,
    /// float32 [padded size]; the running statistics of the network's norms are views of it. Empty where it has none.
    pub statistics: Tensor,
    layout: Vec<Place>,
    statistics_layout: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    start: i64,
    shape: Vec<i64>,
}

impl FlatParameters {
    /// Moves the parameters of `net` and its norms' statistics into flat tensors on its device. The network goes on as
    /// before; its convolution weights become channels-last in memory.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(net: &Net) -> Result<Self> {
        let (mut own, mut statistics): (Vec<Named>, Vec<Named>) =
            net.named().into_iter().partition(|named| named.trainable);
        let is_decayed = |named: &Named| named.tensor.dim() > 1;
        own.sort_by_key(|named| !is_decayed(named));
        let (layout, size) = lay_out(&own);
        let (statistics_layout, statistics_size) = lay_out(&statistics);
        let decayed = lay_out(own.iter().filter(|named| is_decayed(named))).1;
        let options = (Kind::Float, net.device());
        let flat = Self {
            values: Tensor::f_zeros([size], options)?,
            gradients: Tensor::f_zeros([size], options)?,
            decayed,
            statistics: Tensor::f_zeros([statistics_size], options)?,
            layout,
            statistics_layout,
        };
        move_into(&mut own, &flat.layout, &flat.values)?;
        move_into(&mut statistics, &flat.statistics_layout, &flat.statistics)?;
        // A gradient exists only after a backward pass; then its data can be replaced by a view, too.
        let sum = own.iter().map(|named| named.tensor.f_sum(Kind::Float)).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_stack(&sum, 0)?.f_sum(Kind::Float)?.f_backward()?;
        for (named, place) in own.iter_mut().zip(&flat.layout) {
            named.tensor.f_grad()?.f_set_data(&place.view(&flat.gradients)?)?;
        }
        Ok(flat)
    }

    /// Sets all gradients to zero, in place.
    ///
    /// # Errors
    /// libtorch's.
    pub fn zero_gradients(&mut self) -> Result<()> {
        let _ = self.gradients.f_zero_()?;
        Ok(())
    }

    /// Scales all gradients by one factor so that their Euclidean norm is at most `most`, without reading it back; 0 leaves
    /// them (`torch.nn.utils.clip_grad_norm_`).
    ///
    /// # Errors
    /// libtorch's.
    pub fn clip_gradients(&mut self, most: f64) -> Result<()> {
        if most > 0.0 {
            let norm = self.gradients.f_norm()?;
            let factor = (norm.f_add_scalar(1e-6)?.f_reciprocal()? * most).f_clamp_max(1.0)?;
            let _ = self.gradients.f_mul_(&factor)?;
        }
        Ok(())
    }

    /// The parts of `flat` (of this layout, such as an optimizer's moments) by parameter name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn views(&self, flat: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.layout.iter().map(|place| Ok((place.name.clone(), place.view(flat)?))).collect()
    }

    /// The parts of `values` and `statistics` (of these layouts, such as averages of them) by name, sorted as
    /// [`Net::named`] is.
    ///
    /// # Errors
    /// libtorch's.
    pub fn all_views(&self, values: &Tensor, statistics: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut all = self.views(values)?;
        for place in &self.statistics_layout {
            all.push((place.name.clone(), place.view(statistics)?));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

/// The places of `tensors`, one after another, and the size of all.
fn lay_out<'a>(tensors: impl IntoIterator<Item = &'a Named>) -> (Vec<Place>, i64) {
    let mut size = 0;
    let mut place = |named: &Named| {
        let start = size;
        size += (named.tensor.numel().div_ceil(ALIGNMENT) * ALIGNMENT) as i64;
        Place { name: named.name.clone(), start, shape: named.tensor.size() }
    };
    let layout = tensors.into_iter().map(&mut place).collect();
    (layout, size)
}

/// Makes each tensor a view of its place in `flat`, with the values it has.
fn move_into(tensors: &mut [Named], layout: &[Place], flat: &Tensor) -> Result<()> {
    for (named, place) in tensors.iter_mut().zip(layout) {
        let mut view = place.view(flat)?;
        tch::no_grad(|| view.f_copy_(&named.tensor))?;
        named.tensor.f_set_data(&view)?;
    }
    Ok(())
}

impl Place {
    /// This parameter's part of `flat`; channels-last where it is a convolution's weight.
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
    /// Bare values without a network, the first `decayed` of them subject to weight decay.
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

    /// `clip_grad_norm_`: the gradients times min(1, most / (norm + 1e-6)).
    #[test]
    fn clipping_bounds_the_norm_of_all_gradients() {
        for (most, expected) in [(0.0, [3.0, -4.0]), (10.0, [3.0, -4.0]), (1.0, [0.6, -0.8])] {
            let mut flat = FlatParameters::for_tests(&[0.0, 0.0], 2);
            flat.gradients.copy_(&Tensor::from_slice(&[3.0f32, -4.0]));
            flat.clip_gradients(most).unwrap();
            let clipped = Vec::<f32>::try_from(&flat.gradients).unwrap();
            assert!(clipped.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{clipped:?}");
        }
    }
}
