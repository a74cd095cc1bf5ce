//! What every format exports: networks, their average over TTA, and a description.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::format::Format;
use super::model_card::ModelCard;
use crate::data::config::CLASSES;
use crate::data::images::SIDE;
use crate::inference::ensemble::Ensemble;
use crate::inference::trained_run::TrainedNet;
use crate::model::{Mode, NamedTensor, Net};
use crate::transforms::tta::Tta;

/// Networks whose probabilities are averaged, with test-time augmentation.
#[derive(Debug)]
pub struct ExportedModel {
    /// The networks, on the CPU.
    pub nets: Vec<Net>,
    /// What the logits of each network are divided by; 1 for none.
    pub temperatures: Vec<f64>,
    /// Test-time augmentation of each network.
    pub tta: Tta,
    /// Description, without what depends on the format.
    description: Map<String, Value>,
    /// The model card, without what depends on the file.
    pub card: ModelCard,
}

impl ExportedModel {
    /// The best weights of `run`, with its temperature if `is_calibrated`.
    ///
    /// # Errors
    /// An input error for weights that do not match the architecture.
    pub fn from_run(run: &TrainedNet, tta: Tta, is_calibrated: bool) -> Result<Self> {
        let net = run.net(Device::Cpu)?;
        let temperature = if is_calibrated { run.temperature(tta)? } else { 1.0 };
        let mut description = describe_model(&run.config.name, &run.config.data.classes, tta);
        description.insert("temperature".to_owned(), json!(temperature));
        description.insert("parameters".to_owned(), json!(net.parameter_count()));
        description.insert("provenance".to_owned(), provenance(run));
        description.insert("config".to_owned(), json!(run.checkpoint.config));
        let card = ModelCard::new(&[run], &[temperature], is_calibrated, tta)?;
        Ok(Self { nets: vec![net], temperatures: vec![temperature], tta, description, card })
    }

    /// The models of `ensemble`, with a description that lists them.
    ///
    /// # Errors
    /// Like [`from_run`](Self::from_run).
    pub fn from_ensemble(ensemble: &Ensemble) -> Result<Self> {
        let nets = ensemble.models().map(|run| run.net(Device::Cpu)).collect::<Result<Vec<_>>>()?;
        let temperatures = ensemble.temperatures().to_vec();
        let names: Vec<&str> = ensemble.models().map(|run| run.config.name.as_str()).collect();
        let model = |(((run, net), temperature), number): (((&TrainedNet, &Net), &f64), usize)| -> Value {
            json!({
                "tensors": format!("model{number}."),
                "run": run.dir.path().to_string_lossy(),
                "name": run.config.name,
                "parameters": net.parameter_count(),
                "temperature": temperature,
                "provenance": provenance(run),
                "config": run.checkpoint.config,
            })
        };
        let models: Vec<Value> = ensemble.models().zip(&nets).zip(&temperatures).zip(1..).map(model).collect();
        let mut description = describe_model(&names.join("+"), &ensemble.data().classes, ensemble.tta());
        description.insert("parameters".to_owned(), json!(nets.iter().map(Net::parameter_count).sum::<usize>()));
        description.insert("models".to_owned(), json!(models));
        let runs: Vec<&TrainedNet> = ensemble.models().collect();
        let card = ModelCard::new(&runs, &temperatures, ensemble.is_calibrated(), ensemble.tta())?;
        Ok(Self { nets, temperatures, tta: ensemble.tta(), description, card })
    }

    /// Networks without a run, with different temperatures, for tests.
    #[cfg(test)]
    pub fn from_nets(nets: Vec<Net>, tta: Tta) -> Self {
        let temperatures = (0..nets.len()).map(|index| 1.0 + index as f64 / 2.0).collect();
        let description = describe_model("test", &["a".into(), "b".into()], tta);
        Self { nets, temperatures, tta, description, card: ModelCard::default() }
    }

    /// The description of the model in `format`.
    pub fn description(&self, format: Format) -> Map<String, Value> {
        let dtypes: &[&str] = match format {
            Format::TorchScript => &["uint8", "float32"],
            Format::Onnx => &["float32"],
        };
        let mut description = self.description.clone();
        description.insert("format".to_owned(), json!(format));
        if let Some(input) = description.get_mut("input").and_then(Value::as_object_mut) {
            input.insert("dtype".to_owned(), json!(dtypes));
        }
        description
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.nets.first().map_or(0, Net::classes)
    }

    /// All tensors under their checkpoint names, with the prefixes `model1.`, `model2.`, ... for
    /// several networks.
    pub fn named_tensors(&self) -> Vec<NamedTensor> {
        let prefix = |number: usize| if self.nets.len() > 1 { format!("model{number}.") } else { String::new() };
        let named = self.nets.iter().zip(1..).flat_map(|(net, number)| {
            let prefixed = move |named: NamedTensor| NamedTensor { name: prefix(number) + &named.name, ..named };
            net.named_tensors().into_iter().map(prefixed)
        });
        named.collect()
    }

    /// The function that is exported: probabilities float32 [N, classes] of `pixels` [N, 1, 48, 48]
    /// in 0..255, in operations that can be traced.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn probabilities(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut parts = Vec::new();
        for (net, temperature) in self.nets.iter().zip(&self.temperatures) {
            // The dtype and device of a parameter, so that the module works after `.to()`.
            let weight = net.named_tensors().into_iter().next().context("the network has no tensors")?.tensor;
            let x = pixels.f_type_as(&weight)?.f_mul_scalar(1.0 / 255.0)?;
            for transform in self.tta.transforms() {
                let mut logits = net.forward(&transform.apply(&x)?, Mode::Trace)?;
                if *temperature != 1.0 {
                    logits = logits.f_div_scalar(*temperature)?;
                }
                parts.push(logits.f_softmax(-1, None)?.f_to_dtype(Kind::Float, false, false)?);
            }
        }
        let (first, others) = parts.split_first().context("no network to export")?;
        if others.is_empty() {
            return Ok(first.shallow_clone());
        }
        let mut sum = first.shallow_clone();
        for part in others {
            sum = sum.f_add(part)?;
        }
        Ok(sum.f_div_scalar(parts.len() as i64)?)
    }
}

/// Describes an exported model: `name`, `labels`, `input`, `output`, `tta`.
pub fn describe_model(name: &str, classes: &[String], tta: Tta) -> Map<String, Value> {
    let entries = [
        ("name", json!(name)),
        ("labels", json!(classes)),
        ("labels_are_fer2013", json!(classes.iter().map(String::as_str).eq(CLASSES))),
        (
            "input",
            json!({
                "name": "pixels",
                "shape": ["N", 1, SIDE, SIDE],
                "dtype": [],
                "range": [0, 255],
                "meaning": "grayscale images, rows from the top, 0 is black; the module scales them",
            }),
        ),
        (
            "output",
            json!({
                "name": "probabilities",
                "shape": ["N", classes.len()],
                "dtype": "float32",
                "meaning": "probability of each label",
            }),
        ),
        ("tta", json!(tta)),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Provenance of the weights of an exported model.
fn provenance(run: &TrainedNet) -> Value {
    let state = &run.checkpoint.state;
    json!({
        "grimace": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::torch_version(),
        "seed": run.config.seed,
        "epoch": state.best.map(|best| best.epoch),
        "val_accuracy": state.best.map(|best| best.val_accuracy),
        "val_accuracy_dedup": state.best.and_then(|best| best.val_accuracy_dedup),
        "data_hash": state.data_hash,
        "split_hash": state.split_hash,
        "init": state.init,
    })
}
