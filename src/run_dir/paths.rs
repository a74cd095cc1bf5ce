//! Paths of the files in a run directory.

use std::path::{Path, PathBuf};

use super::RunDir;

/// Base names of the plots in a report, each written as SVG and PNG.
pub const PLOTS: [&str; 5] = ["curves", "confusion", "reliability", "roc", "mistakes"];

impl RunDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The console output.
    pub fn log_txt(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// One JSON object per epoch.
    pub fn metrics_jsonl(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The newest checkpoint, with optimizer state.
    pub fn last_safetensors(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The checkpoint before the newest, used when the newest is corrupt.
    pub fn previous_safetensors(&self) -> PathBuf {
        self.path.join("previous.safetensors")
    }

    /// The checkpoint that a diverged run is rolled back to; written if `train.max_rollbacks` > 0.
    pub fn rollback_safetensors(&self) -> PathBuf {
        self.path.join("rollback.safetensors")
    }

    /// The best weights by `train.early_stop.monitor`.
    pub fn best_safetensors(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Predictions of the best weights for the validation images.
    pub fn validation_csv(&self) -> PathBuf {
        self.path.join("validation.csv")
    }

    /// The temperature of the best weights.
    pub fn calibration_json(&self) -> PathBuf {
        self.path.join("calibration.json")
    }

    /// The HTML report.
    pub fn report_html(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The fitted forest of a `grimace forest` run.
    pub fn forest_safetensors(&self) -> PathBuf {
        self.path.join("forest.safetensors")
    }

    /// Feature importances of a forest as a heat map.
    pub fn importance_png(&self) -> PathBuf {
        self.path.join("importance.png")
    }

    /// The part (training or validation) of each image.
    pub fn split_csv(&self) -> PathBuf {
        self.path.join("split.csv")
    }

    /// The result.
    pub fn summary_json(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Files that are written atomically and replaced.
    pub(super) fn replaced_files(&self) -> Vec<PathBuf> {
        let plots = PLOTS
            .iter()
            .flat_map(|name| ["svg", "png"].map(|extension| self.path.join(name).with_extension(extension)));
        let files = [
            self.config_toml(),
            self.split_csv(),
            self.metrics_jsonl(),
            self.last_safetensors(),
            self.previous_safetensors(),
            self.rollback_safetensors(),
            self.best_safetensors(),
            self.summary_json(),
            self.forest_safetensors(),
            self.importance_png(),
            self.validation_csv(),
            self.calibration_json(),
            self.report_html(),
        ];
        files.into_iter().chain(plots).collect()
    }
}
