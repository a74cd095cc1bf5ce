//! Checks that training fits into memory.

use anyhow::Result;
use tch::{Device, Kind};

use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::Placement;
use crate::inference::forward;
use crate::model::config::ModelConfig;
use crate::util::error::input;

/// Refuses training that needs more than `memory` bytes, before the system's out-of-memory killer
/// ends the process. Only for the CPU: libtorch reports a full GPU itself.
///
/// # Errors
/// An input error with the memory needed and available.
pub fn check(config: &Config, data: &Dataset, placement: &Placement, memory: Option<u64>) -> Result<()> {
    let Some(memory) = memory.filter(|_| placement.device == Device::Cpu) else { return Ok(()) };
    let rows = [data.train.len(), data.validation.len()];
    let needed = min_memory(&config.model, config.data.classes.len(), config.train.batch, rows, placement.kind);
    if needed <= memory {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Err(input(format!(
        "train.batch = {}: a step of this network needs at least {:.1} GiB of memory, and this machine has \
         {:.1} GiB; use a smaller batch or fewer filters",
        config.train.batch,
        gib(needed),
        gib(memory)
    )))
}

/// Lower bound in bytes of what training and validation on `rows` images take.
fn min_memory(model: &ModelConfig, classes: usize, batch: usize, rows: [usize; 2], kind: Kind) -> u64 {
    let [train_rows, validation_rows] = rows.map(|rows| rows as u64);
    let bytes = if kind == Kind::Float { 4 } else { 2 };
    // Activations kept for the backward pass, and at its start the gradients of a layer's output
    // and input.
    let kept = model.activations().saturating_add(2 * model.largest_activation());
    let step = kept.saturating_mul(bytes).saturating_mul(train_rows.min(batch as u64));
    let validation =
        model.largest_activation().saturating_mul(2 * 4).saturating_mul(validation_rows.min(forward::CPU_BATCH));
    // Weights, gradients, one moment; and a checkpoint of weights and moment, as tensors and as a
    // file. A second moment and the EMA are not counted.
    let weights = model.values(classes).saturating_mul(4 * (3 + 2 * 2));
    step.max(validation).saturating_add(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cnn::CnnConfig;

    #[test]
    fn the_larger_of_step_and_validation_counts() {
        let cnn = CnnConfig::default();
        let model = ModelConfig::Cnn(cnn.clone());
        let min_memory = |batch, rows| min_memory(&model, 7, batch, rows, Kind::Float);
        let (small, large) = (min_memory(64, [1000, 200]), min_memory(1024, [100_000, 200]));
        assert!(small > 64 * 4 * model.activations() && small < 1 << 28, "{small}");
        assert!(large > 16 * 64 * 4 * model.activations(), "{large}");
        assert_eq!(min_memory(1024, [10, 1]), min_memory(10, [10, 1]), "a batch is at most all rows");
        let wide = ModelConfig::Cnn(CnnConfig { filters: vec![2048], convolutions: 2, kernel: 1, ..cnn });
        assert!(
            super::min_memory(&wide, 7, 1, [1000, 128], Kind::Float) > 4 << 30,
            "validation runs 128 images at a time"
        );
    }
}
