//! Export of an ensemble as one TorchScript module.

use anyhow::Result;
use serde_json::{Value, json};
use tch::Device;

use super::output_path::ExportPath;
use super::torchscript::{Exported, describe_model, provenance, write_module};
use crate::inference::ensemble::Ensemble;
use crate::inference::trained_run::TrainedNet;
use crate::model::Net;

/// Writes the ensemble as one TorchScript module to `out`, with a description that lists the
/// models.
///
/// # Errors
/// Like `write_module`.
pub fn export_ensemble(ensemble: &Ensemble, out: &ExportPath) -> Result<Exported> {
    let nets = ensemble.models().map(|run| run.net(Device::Cpu)).collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = ensemble.models().map(|run| run.config.name.as_str()).collect();
    let model = |((run, net), number): ((&TrainedNet, &Net), usize)| -> Value {
        json!({
            "tensors": format!("model{number}."),
            "run": run.dir.path().to_string_lossy(),
            "name": run.config.name,
            "parameters": net.parameter_count(),
            "provenance": provenance(run),
            "config": run.checkpoint.config,
        })
    };
    let models: Vec<Value> = ensemble.models().zip(&nets).zip(1..).map(model).collect();
    let mut description = describe_model(&names.join("+"), &ensemble.data().classes, ensemble.tta());
    description.insert("parameters".to_owned(), json!(nets.iter().map(Net::parameter_count).sum::<usize>()));
    description.insert("models".to_owned(), json!(models));
    write_module(&nets, ensemble.tta(), &description, out)
}
