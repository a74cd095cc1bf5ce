//! `GET /v1/model`

use serde_json::{Value, json};

use super::options::ServeOptions;
use super::state::MAX_IMAGES;
use crate::data::images::SIDE;
use crate::forest::run::read_finished;
use crate::inference::classifier::Classifier;
use crate::inference::trained_run::TrainedRun;
use crate::model::ModelConfig;
use crate::util::files::last_name;

/// What is known about a run, before it becomes a [`Classifier`].
#[derive(Debug)]
pub(super) struct RunFacts {
    name: String,
    /// Name of the run directory.
    run: String,
    kind: &'static str,
    best_epoch: Option<u32>,
    val_accuracy: Option<f64>,
    val_accuracy_dedup: Option<f64>,
}

impl RunFacts {
    pub fn new(run: &TrainedRun) -> Self {
        match run {
            TrainedRun::Net(run) => {
                let best = run.checkpoint.state.best.as_ref();
                Self {
                    name: run.config.name.clone(),
                    run: last_name(run.dir.path()),
                    kind: match run.config.model {
                        ModelConfig::Cnn(_) => "cnn",
                        ModelConfig::Vgg(_) => "vgg",
                        ModelConfig::Resnet(_) => "resnet",
                    },
                    best_epoch: best.map(|best| best.epoch),
                    val_accuracy: best.map(|best| best.val_accuracy),
                    val_accuracy_dedup: best.and_then(|best| best.val_accuracy_dedup),
                }
            }
            TrainedRun::Forest(run) => {
                let summary = read_finished(run.dir.path());
                Self {
                    name: run.config.name.clone(),
                    run: last_name(run.dir.path()),
                    kind: "forest",
                    best_epoch: None,
                    val_accuracy: summary.as_ref().and_then(|summary| summary.val_accuracy),
                    val_accuracy_dedup: summary.as_ref().and_then(|summary| summary.val_accuracy_dedup),
                }
            }
        }
    }

    /// A name for the log: `notebook (first, cnn)`.
    pub fn describe(&self) -> String {
        format!("{} ({}, {})", self.name, self.run, self.kind)
    }

    /// The response. `no_detector`: why there is no detector.
    pub fn to_json(
        &self,
        classes: &[String],
        model: &Classifier,
        no_detector: Option<&str>,
        options: &ServeOptions,
    ) -> Value {
        json!({
            "name": self.name,
            "run": self.run,
            "kind": self.kind,
            "classes": classes,
            "input": {"width": SIDE, "height": SIDE},
            "tta": model.tta(),
            "temperature": model.temperature(),
            "parameters": model.parameters(),
            "best_epoch": self.best_epoch,
            "val_accuracy": self.val_accuracy,
            "val_accuracy_dedup": self.val_accuracy_dedup,
            "version": env!("CARGO_PKG_VERSION"),
            "detector": no_detector.is_none(),
            "detector_problem": no_detector,
            "limits": {
                "body_bytes": options.max_body,
                "pixels": options.max_pixels,
                "images": MAX_IMAGES,
                "batch": options.batch,
                "queue": options.queue,
                "timeout_seconds": options.timeout.as_secs_f64(),
            },
        })
    }
}
