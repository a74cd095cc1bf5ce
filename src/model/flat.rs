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
    layout: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    start: i64,
    shape: Vec<i64>,
}

impl FlatParameters {
    /// Moves the parameters of `net` into flat tensors on its device. The network goes on as before; its convolution
    /// weights become channels-last in memory.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(net: &Net) -> Result<Self> {
        let mut own: Vec<Named> = net.named().into_iter().filter(|named| named.trainable).collect();
        let is_decayed = |named: &Named| named.tensor.dim() > 1;
        own.sort_by_key(|named| !is_decayed(named));
        let mut layout = Vec::new();
        let (mut size, mut decayed) = (0, 0);
        for named in &own {
            layout.push(Place { name: named.name.clone(), start: size, shape: named.tensor.size() });
            size += (named.tensor.numel().div_ceil(ALIGNMENT) * ALIGNMENT) as i64;
            if is_decayed(named) {
                decayed = size;
            }
        }
        let options = (Kind::Float, net.device());
        let flat = Self {
            values: Tensor::f_zeros([size], options)?,
            gradients: Tensor::f_zeros([size], options)?,
            decayed,
            layout,
        };
        for (named, place) in own.iter_mut().zip(&flat.layout) {
            let mut view = place.view(&flat.values)?;
            tch::no_grad(|| view.f_copy_(&named.tensor))?;
            named.tensor.f_set_data(&view)?;
        }
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

    /// The parts of `flat` (of this layout, such as an optimizer's moments) by parameter name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn views(&self, flat: &Tensor) -> Result<Vec<(String, Tensor)>> {
        self.layout.iter().map(|place| Ok((place.name.clone(), place.view(flat)?))).collect()
    }
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
        Self { gradients: values.zeros_like(), values, decayed, layout: Vec::new() }
    }
}
