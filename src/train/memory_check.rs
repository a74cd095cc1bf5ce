//! Whether a training fits into memory.

use anyhow::Result;
use tch::{Device, Kind};

use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::device::Placement;
use crate::inference::forward;
use crate::model::config::ModelConfig;
use crate::util::error::input;

/// Refuses a training that this machine's memory cannot hold, before the system ends the process for it. Of a GPU libtorch
/// says so itself. `memory` in bytes, where it is known.
///
/// # Errors
/// An input error that names what is needed and what there is.
pub fn check(config: &Config, data: &Dataset, placement: &Placement, memory: Option<u64>) -> Result<()> {
    let Some(memory) = memory.filter(|_| placement.device == Device::Cpu) else { return Ok(()) };
    let rows = [data.train.len(), data.validation.len()];
    let needed = needed(&config.model, config.data.classes.len(), config.train.batch, rows, placement.kind);
    if needed <= memory {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Err(input(format!(
        "train.batch = {}: a step of this network needs at least {:.1} GiB of memory, this machine has {:.1}: \
         use a smaller batch or fewer filters",
        config.train.batch,
        gib(needed),
        gib(memory)
    )))
}

/// Bytes that training and validating `rows` images take at least.
fn needed(model: &ModelConfig, classes: usize, batch: usize, rows: [usize; 2], kind: Kind) -> u64 {
    let [train, validation] = rows.map(|rows| rows as u64);
    let bytes = if kind == Kind::Float { 4 } else { 2 };
    // Each value that is kept; where the backward pass begins, a layer's gradients by its output and its input. In truth there
    // is more.
    let kept = model.activations().saturating_add(2 * model.largest_layer());
    let step = kept.saturating_mul(bytes).saturating_mul(train.min(batch as u64));
    let validating = model.largest_layer().saturating_mul(2 * 4).saturating_mul(validation.min(forward::CPU_BATCH));
    // Weights, gradients, one moment; and a checkpoint of weights and moment as tensors and as a file. A second moment and an
    // average come on top of that.
    let weights = model.values(classes).saturating_mul(4 * (3 + 2 * 2));
    step.max(validating).saturating_add(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cnn::CnnConfig;

    #[test]
    fn the_greatest_part_decides() {
        let cnn = CnnConfig::default();
        let model = ModelConfig::Cnn(cnn.clone());
        let needed = |batch, rows| needed(&model, 7, batch, rows, Kind::Float);
        let (small, large) = (needed(64, [1000, 200]), needed(1024, [100_000, 200]));
        assert!(small > 64 * 4 * model.activations() && small < 1 << 28, "{small}");
        assert!(large > 16 * 64 * 4 * model.activations(), "{large}");
        assert_eq!(needed(1024, [10, 1]), needed(10, [10, 1]), "no batch is larger than the rows");
        let wide = ModelConfig::Cnn(CnnConfig { filters: vec![2048], convolutions: 2, kernel: 1, ..cnn });
        assert!(super::needed(&wide, 7, 1, [1000, 128], Kind::Float) > 4 << 30, "validation takes 128 images at once");
    }
}
