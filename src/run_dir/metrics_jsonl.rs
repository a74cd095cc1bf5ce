//! `metrics.jsonl`: one JSON object per epoch.

use std::io::Read as _;

use anyhow::Result;
use fs_err as fs;

use super::RunDir;
use crate::metrics::epoch::EpochMetrics;
use crate::util::files::{check_regular_file, write_atomically};

/// Maximum number of bytes read from `metrics.jsonl`; `MAX_EPOCHS` epochs take less.
const MAX_METRICS: u64 = 1 << 26;

impl RunDir {
    /// Rewrites `metrics.jsonl` with these epochs. Lines of unchanged epochs stay byte for byte.
    ///
    /// # Errors
    /// An I/O error with the path.
    pub fn write_metrics<'a>(&self, epochs: impl Iterator<Item = &'a EpochMetrics>) -> Result<()> {
        let mut text = String::new();
        for epoch in epochs {
            text += &serde_json::to_string(epoch)?;
            text.push('\n');
        }
        write_atomically(&self.metrics_jsonl(), text.as_bytes())
    }

    /// Reads the epochs in `metrics.jsonl` up to the first line that is truncated or out of
    /// sequence; none if the file does not exist.
    ///
    /// The checkpoint is authoritative. This is for epochs that no checkpoint has yet.
    ///
    /// # Errors
    /// If the path exists but is not a readable regular file.
    pub fn read_metrics(&self) -> Result<Vec<EpochMetrics>> {
        let path = self.metrics_jsonl();
        if !path.exists() {
            return Ok(Vec::new());
        }
        check_regular_file(&path, "metrics")?;
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(MAX_METRICS).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let epochs = text.lines().map_while(|line| serde_json::from_str::<EpochMetrics>(line).ok());
        Ok((1..).zip(epochs).take_while(|(number, epoch)| epoch.epoch == *number).map(|(_, epoch)| epoch).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_up_to_a_truncated_line() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(&folder.path().join("run")).unwrap();
        assert_eq!(dir.read_metrics().unwrap(), []);
        let metrics = |epoch| EpochMetrics {
            epoch,
            lr: 1e-3,
            loss: 0.1 + 0.2,
            accuracy: 0.5,
            val_loss: 1.0 / 3.0,
            val_accuracy: 0.25,
            val_accuracy_dedup: None,
            val_macro_f1: None,
            seconds: 1.5,
            images_per_second: 10.0,
        };
        dir.write_metrics([metrics(1), metrics(2)].iter()).unwrap();
        assert_eq!(dir.read_metrics().unwrap(), [metrics(1), metrics(2)]);
        let complete = fs::read(dir.metrics_jsonl()).unwrap();
        fs::write(dir.metrics_jsonl(), &complete[..complete.len() - 9]).unwrap();
        assert_eq!(dir.read_metrics().unwrap(), [metrics(1)]);
        fs::write(dir.metrics_jsonl(), b"\xff\n").unwrap();
        assert_eq!(dir.read_metrics().unwrap(), []);
    }
}
