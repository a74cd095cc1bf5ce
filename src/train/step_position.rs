//! Which step of an epoch a tensor operation is about: a number on the host, or one on the device
//! that a CUDA graph reads and advances.

use anyhow::Result;
use tch::Tensor;

/// A step of an epoch.
#[derive(Debug, Clone, Copy)]
pub enum StepPosition<'a> {
    /// Its number, from 0.
    Host(i64),
    /// int64 `[1]` on the device: its number, from 0.
    Device(&'a Tensor),
}

impl StepPosition<'_> {
    /// The entry of this step in `all` [steps, ...]: [...].
    pub fn take(self, all: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Host(step) => all.f_select(0, step)?,
            Self::Device(step) => all.f_index_select(0, step)?.f_squeeze_dim(0)?,
        })
    }

    /// Writes `value` [...] as the entry of this step in `all` [steps, ...].
    pub fn put(self, all: &Tensor, value: &Tensor) -> Result<()> {
        match self {
            Self::Host(step) => all.f_select(0, step)?.f_copy_(value)?,
            Self::Device(step) => drop(all.shallow_clone().f_index_copy_(0, step, &value.f_unsqueeze(0)?)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn both_positions_take_and_put_the_same_entry() {
        let cursor = Tensor::from_slice(&[1i64]);
        for position in [StepPosition::Host(1), StepPosition::Device(&cursor)] {
            let all = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu));
            position.put(&all, &Tensor::from_slice(&[5.0f32, 6.0])).unwrap();
            assert_eq!(Vec::<f32>::try_from(all.flatten(0, -1)).unwrap(), [0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
            assert_eq!(Vec::<f32>::try_from(position.take(&all).unwrap()).unwrap(), [5.0, 6.0]);
        }
    }
}
