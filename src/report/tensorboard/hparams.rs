//! Data of TensorBoard's HParams plugin: the hyperparameters of a run, and how it ended. Field
//! numbers are those of tensorboard/plugins/hparams/plugin_data.proto and api.proto.

use anyhow::Result;
use toml::{Table, Value};

use super::message::Message;
use crate::config::{Config, read_table};
use crate::data::config::Validation;

/// `STATUS_SUCCESS`.
const SUCCESS: i64 = 1;
/// `DT_FLOAT`.
const FLOAT: i64 = 1;

/// Keys that are no hyperparameters: the run's name, paths and class names.
const EXCLUDED: [&str; 6] = ["name", "data.train", "data.test", "data.soft_labels", "data.exclude", "data.classes"];

/// The value of a hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub enum HparamValue {
    /// Any number; the plugin has no integers.
    Number(f64),
    /// A string, or a value that the plugin has no type for.
    Text(String),
    /// A boolean.
    Flag(bool),
}

impl HparamValue {
    /// As `google.protobuf.Value`.
    fn value(&self) -> Message {
        match self {
            Self::Number(number) => Message::default().double(2, *number),
            Self::Text(text) => Message::default().text(3, text),
            Self::Flag(flag) => Message::default().int(4, i64::from(*flag)),
        }
    }
}

impl From<Value> for HparamValue {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Integer(number) => Self::Number(number as f64),
            Value::Float(number) => Self::Number(number),
            Value::Boolean(flag) => Self::Flag(flag),
            other => Self::Text(other.to_string()),
        }
    }
}

/// Flattens a config into dotted keys and values, without the run's name, paths and class names.
///
/// # Errors
/// Errors of TOML serialization, which no checked config causes.
pub fn config_hparams(config: &Config) -> Result<Vec<(String, HparamValue)>> {
    let mut found = Vec::new();
    flatten("", read_table(&config.to_toml()?)?, &mut found);
    let is_path = matches!(config.data.validation, Validation::Path(_));
    found.retain(|(key, _)| !(EXCLUDED.contains(&key.as_str()) || is_path && key == "data.validation"));
    Ok(found)
}

fn flatten(folder: &str, table: Table, found: &mut Vec<(String, HparamValue)>) {
    for (key, value) in table {
        let key = if folder.is_empty() { key } else { format!("{folder}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, found),
            value => found.push((key, value.into())),
        }
    }
}

/// `Summary.Value` with the hyperparameters of a run, `SessionStartInfo`.
///
/// There is no `Experiment` beside it: TensorBoard would use that of one run for all, and hide keys
/// that this run lacks.
pub fn session_start(values: &[(String, HparamValue)], start: f64) -> Message {
    let entries = values.iter().fold(Message::default(), |message, (key, value)| {
        message.message(1, &Message::default().text(1, key).message(2, &value.value()))
    });
    plugin_value("_hparams_/session_start_info", 3, &entries.text(4, &group(values)).double(5, start))
}

/// `Summary.Value` of a finished run, `SessionEndInfo`.
pub fn session_end(time: f64) -> Message {
    plugin_value("_hparams_/session_end_info", 4, &Message::default().int(1, SUCCESS).double(2, time))
}

/// Name of the group of a run: a hash of its hyperparameters, so that equal ones form a group.
fn group(values: &[(String, HparamValue)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in values {
        hasher.update(Message::default().text(1, key).message(2, &value.value()).encoded());
    }
    hasher.finalize().to_hex().to_string()
}

/// `Summary.Value` with `HParamsPluginData` as its metadata; `field` is the field number of `data`
/// in it.
fn plugin_value(tag: &str, field: u32, data: &Message) -> Message {
    let content = Message::default().message(field, data);
    let plugin = Message::default().text(1, "hparams").bytes(2, content.encoded());
    let metadata = Message::default().message(1, &plugin);
    // An empty tensor: TensorBoard skips a value that has only metadata.
    let no_edges = Message::default().message(2, &Message::default().int(1, 0));
    let tensor = Message::default().int(1, FLOAT).message(2, &no_edges);
    Message::default().text(1, tag).message(8, &tensor).message(9, &metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    #[test]
    fn a_config_becomes_dotted_keys() {
        let text = "name = \"x\"\n[data]\ntrain = \"a/b.csv\"\n[model]\nkind = \"cnn\"\nfilters = [16, 32]\n";
        let read = |text: &str| config_hparams(&from_text(text, "x.toml").unwrap()).unwrap();
        let found = read(text);
        let value = |key: &str| found.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        assert_eq!(value("seed"), Some(HparamValue::Number(42.0)));
        assert_eq!(value("model.kind"), Some(HparamValue::Text("cnn".into())));
        assert_eq!(value("model.filters"), Some(HparamValue::Text("[16, 32]".into())));
        assert_eq!(value("augment.flip"), Some(HparamValue::Flag(true)));
        assert_eq!(value("train.optimizer.lr"), Some(HparamValue::Number(1e-3)));
        assert_eq!(value("data.validation"), Some(HparamValue::Number(0.2)));
        assert!(EXCLUDED.iter().all(|key| value(key).is_none()));

        let with_path = read(&text.replace("[model]", "validation = \"v.csv\"\n[model]"));
        assert!(with_path.iter().all(|(key, _)| key != "data.validation"), "a path is no hyperparameter");
        assert!(group(&found) == group(&read(text)) && group(&found) != group(&with_path));
    }
}
