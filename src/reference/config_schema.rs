//! JSON Schema of a config: keys, types, ranges and defaults, for editors and the reference page.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::config::RawConfig;
use crate::forest::config::RawForestConfig;

/// The two kinds of config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ConfigKind {
    /// A network, for `grimace train` and `grimace sweep`
    Train,
    /// A random forest, for `grimace forest`
    Forest,
}

/// The schema of a config, in JSON Schema draft 7, which TOML editors support.
pub fn config_schema(kind: ConfigKind) -> Value {
    match kind {
        ConfigKind::Train => schema_of::<RawConfig>("Grimace: config of a network"),
        ConfigKind::Forest => schema_of::<RawForestConfig>("Grimace: config of a random forest"),
    }
}

fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(as_toml).transform(&mut schema);
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

/// Removes what TOML or a reader has no use for: `null`, sizes of Rust's integers, line breaks of
/// doc comments.
fn as_toml(schema: &mut Schema) {
    schema.remove("format");
    // A list that must not be empty is empty while it is not set.
    let needs_items = schema.get("minItems").is_some();
    let is_unset = |value: &Value| value.is_null() || (needs_items && value.as_array().is_some_and(Vec::is_empty));
    if schema.get("default").is_some_and(is_unset) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let Some(object) = schema.as_object_mut() else { return };
    // An optional table or enum.
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = object.get_mut(key) else { continue };
        choices.retain(|choice| choice.get("type") != Some(&"null".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFile, load};
    use crate::forest::config::ForestConfig;

    /// A number of a schema, and its limits.
    struct Limited {
        /// Settings that lead to it, such as `model.kind="vgg"`.
        sets: Vec<String>,
        key: String,
        schema: Value,
    }

    /// All limited numbers below `schema`, whose key is `key`.
    fn limited(schema: &Value, key: &str, sets: &[String], found: &mut Vec<Limited>) {
        if let Some(properties) = schema["properties"].as_object() {
            let mut sets = sets.to_vec();
            if let Some(kind) = schema["properties"]["kind"]["const"].as_str() {
                sets.push(format!("{key}={{kind={kind:?}}}"));
            }
            // Only a fold has required numbers: the first one of as many as possible.
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let limits = required.zip(["minimum", "maximum"]).map(|(name, limit)| (name, &properties[name][limit]));
            let values: Vec<_> = limits.filter(|(_, limit)| limit.is_u64()).map(|(n, v)| format!("{n}={v}")).collect();
            if !values.is_empty() {
                sets.push(format!("{key}={{{}}}", values.join(", ")));
            }
            for (name, property) in properties {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                limited(property, &key, &sets, found);
            }
        }
        for choices in ["anyOf", "oneOf"] {
            schema[choices].as_array().into_iter().flatten().for_each(|choice| limited(choice, key, sets, found));
        }
        if schema["type"] == "number" || schema["type"] == "integer" {
            found.push(Limited { sets: sets.to_vec(), key: key.to_owned(), schema: schema.clone() });
        }
    }

    fn accepts<C: ConfigFile>(text: &str, sets: &[String]) -> bool {
        load::parse::<C>(text, "x.toml", sets).is_ok()
    }

    /// Values just inside and just outside the limits of a number.
    fn probes(schema: &Value) -> (Vec<f64>, Vec<f64>) {
        let step = if schema["type"] == "integer" { schema["multipleOf"].as_f64().unwrap_or(1.0) } else { 1e-6 };
        // Larger integers are not exact as float64.
        let limit = |name: &str| schema[name].as_f64().filter(|limit| *limit < 1e15);
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (name, exclusive, direction) in
            [("minimum", "exclusiveMinimum", 1.0), ("maximum", "exclusiveMaximum", -1.0)]
        {
            if let Some(limit) = limit(name) {
                inside.push(limit);
                outside.push(limit - direction * step.max(limit.abs() * 1e-6));
            }
            if let Some(limit) = limit(exclusive) {
                inside.push(limit + direction * step);
                outside.push(limit);
            }
        }
        (inside, outside)
    }

    /// Keys of which an allowed value may be refused together with the defaults of other keys.
    const DEPENDENT: [&str; 7] = [
        "train.schedule.min_lr",
        "train.optimizer.momentum",
        "train.progressive.from",
        "train.progressive.to",
        "train.soft_label_weight",
        "model.convolutions",
        "model.kernel",
    ];

    #[test]
    fn limits_are_those_that_are_checked() {
        fn check<C: ConfigFile>(kind: ConfigKind, text: &str) -> usize {
            let mut found = Vec::new();
            limited(&config_schema(kind), "", &[], &mut found);
            let (mut count, mut refused) = (0, Vec::new());
            for Limited { sets, key, schema } in &found {
                let with = |value: f64| {
                    let value = if schema["type"] == "integer" { format!("{value:.0}") } else { format!("{value:e}") };
                    [&sets[..], &[format!("{key}={value}")]].concat()
                };
                let (inside, outside) = probes(schema);
                count += inside.len();
                for value in inside.into_iter().filter(|_| !DEPENDENT.contains(&key.as_str())) {
                    if !accepts::<C>(text, &with(value)) {
                        refused.push(format!("{key} = {value}"));
                    }
                }
                for value in outside {
                    assert!(!accepts::<C>(text, &with(value)), "{key} = {value} is accepted");
                }
            }
            assert!(refused.is_empty(), "{refused:?}");
            count
        }
        let data = "name = \"x\"\n[data]\ntrain = \"x.csv\"\n";
        let tables = "[model]\nkind = \"cnn\"\n[train]\nearly_stop = { patience = 0 }\n";
        let count = check::<Config>(ConfigKind::Train, &format!("{data}{tables}"));
        assert!(count > 80, "{count} limits");
        assert!(check::<ForestConfig>(ConfigKind::Forest, &format!("{data}[forest]\n")) >= 6);
    }

    #[test]
    fn the_schema_accepts_what_the_config_accepts() {
        let schema = config_schema(ConfigKind::Train);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["name", "data", "model"]));
        let text = schema.to_string();
        assert!(!text.contains("null") && !text.contains("$ref"), "{text}");
        let kinds: Vec<&str> = schema["properties"]["model"]["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["properties"]["kind"]["const"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["cnn", "vgg", "resnet"]);
    }
}
