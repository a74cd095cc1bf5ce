//! Whether a training fits into memory.

use anyhow::Result;
use tch::{Device, Kind};

use crate::config::{Config, ModelConfig};
use crate::device::Placement;
use crate::error::input;

/// Refuses a batch that this machine's memory cannot hold, before the system ends the process for it. Of a GPU libtorch says
/// so itself. `memory` in bytes, where it is known; `rows` the training faces.
///
/// # Errors
/// An input error that names what is needed and what there is.
pub fn check(config: &Config, rows: usize, placement: &Placement, memory: Option<u64>) -> Result<()> {
    let Some(memory) = memory.filter(|_| placement.device == Device::Cpu) else { return Ok(()) };
    let ModelConfig::Cnn(cnn) = &config.model;
    let (batch, bytes) = (config.train.batch, if placement.kind == Kind::Float { 4 } else { 2 });
    // Each value and its gradient; in truth there is more.
    let needed = cnn.activations().saturating_mul(2 * bytes).saturating_mul(batch.min(rows) as u64);
    if needed <= memory {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    Err(input(format!(
        "train.batch = {batch}: a step of this network needs at least {:.1} GiB of memory, this machine has {:.1}: \
         use a smaller batch or fewer filters",
        gib(needed),
        gib(memory)
    )))
}

#[cfg(test)]
mod tests {
    use crate::config::{self, DeviceChoice, Precision};
    use crate::device;

    #[test]
    fn a_batch_that_cannot_fit_is_refused() {
        let text = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n[model]\nkind = \"cnn\"\n[train]\nbatch = 1024\n";
        let config = config::from_text(text, "x.toml").unwrap();
        let placement = device::place(DeviceChoice::Cpu, Precision::F32, 1).unwrap();
        let check = |rows, memory| super::check(&config, rows, &placement, memory);
        assert!(
            check(100_000, Some(4 << 30)).is_ok() && check(100_000, None).is_ok() && check(10, Some(1 << 28)).is_ok()
        );
        let message = check(100_000, Some(1 << 28)).unwrap_err().to_string();
        assert!(message.contains("train.batch = 1024") && message.contains("this machine has 0.2"), "{message}");
    }
}
