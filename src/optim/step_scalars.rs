//! The numbers of a training step that change from step to step.

use anyhow::Result;
use tch::{Device, Tensor};

/// Learning rate, step number and EMA weight of one update.
#[derive(Debug)]
pub struct StepScalars {
    /// The learning rate.
    pub lr: f64,
    /// Number of the step, counted from 1 over the run.
    pub number: u64,
    /// Weight of the new weights in their EMA; 0 without one.
    pub ema_weight: f64,
    /// The same on a GPU, where a CUDA graph reads them.
    pub on_device: Option<DeviceScalars>,
}

impl StepScalars {
    /// Scalars on the host only.
    pub fn on_host(lr: f64, number: u64, ema_weight: f64) -> Self {
        Self { lr, number, ema_weight, on_device: None }
    }
}

/// [`StepScalars`] of one step on the device, each float32 `[1]`.
#[derive(Debug)]
pub struct DeviceScalars {
    /// The learning rate.
    pub lr: Tensor,
    /// Number of the step.
    pub number: Tensor,
    /// Weight of the new weights in their EMA.
    pub ema_weight: Tensor,
}

impl DeviceScalars {
    /// Number of values per step in [`upload`](Self::upload).
    const COUNT: usize = 3;

    /// Copies the scalars of all steps of an epoch to `device`: float32 [steps, 3].
    pub fn upload(steps: &[StepScalars], device: Device) -> Result<Tensor> {
        let values: Vec<f32> =
            steps.iter().flat_map(|step| [step.lr as f32, step.number as f32, step.ema_weight as f32]).collect();
        Ok(Tensor::f_from_slice(&values)?.f_view([-1, Self::COUNT as i64])?.f_to_device(device)?)
    }

    /// The scalars in a row of [`upload`](Self::upload): float32 `[3]`.
    pub fn from_row(row: &Tensor) -> Result<Self> {
        let column = |index| row.f_narrow(0, index, 1);
        Ok(Self { lr: column(0)?, number: column(1)?, ema_weight: column(2)? })
    }
}
