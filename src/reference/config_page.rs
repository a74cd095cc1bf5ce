//! `docs/configuration.md`: every key of a config, from its schema.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::GENERATED;
use super::config_schema::{ConfigKind, config_schema};

const INTRODUCTION: &str = "
# Configuration

Every key of a config, with its allowed values and its default. `name`, `data.train` and
`model.kind` are required, all others are optional; an empty default means that the key is not set.
[training.md](training.md) explains how to use them, [data.md](data.md) those of `[data]`.

A config is a TOML file. Any key can be set on the command line: `--set train.batch=128`. An unknown
key, a wrong type or a value out of range is an error that names file, line and key.
`config.toml` in a run directory has the resolved config.

Editors with a TOML language server complete and check a config whose first line names its schema.
Write the schema beside the config, `grimace generate schema > train.schema.json`, and begin the
config with `#:schema train.schema.json`; `grimace generate schema forest` is that of a forest.
";

/// A table of keys under construction, followed by those of its tables.
#[derive(Default)]
struct Section {
    rows: Vec<[String; 4]>,
    subsections: String,
}

/// The page.
pub fn configuration_page() -> String {
    let train = config_schema(ConfigKind::Train);
    let forest = config_schema(ConfigKind::Forest);
    let mut page = format!("{GENERATED}{INTRODUCTION}");
    page += "\n## Top level\n";
    let is_table = |schema: &Value| schema["type"] == "object" || schema.get("oneOf").is_some_and(has_kinds);
    let (tables, scalars): (Vec<_>, Vec<_>) = properties(&train).into_iter().partition(|(_, schema)| is_table(schema));
    let mut top = Section::default();
    scalars.iter().for_each(|(name, schema)| top.add(name, schema, ""));
    page += &top.to_markdown();
    for (name, schema) in tables {
        page += &table_section(name, schema);
    }
    if let Some(schema) = forest.pointer("/properties/forest") {
        page += "\n## Forest configs\n\nThey have `name`, `seed`, `threads` and `[data]` as above, and `[forest]`.\n";
        page += &table_section("forest", schema).replacen("## ", "### ", 1);
    }
    page
}

/// The section of a table of the root.
fn table_section(name: &str, schema: &Value) -> String {
    let mut text = format!("\n## [{name}]\n");
    if let Some(description) = schema["description"].as_str() {
        let _ = writeln!(text, "\n{}", sentence(description));
    }
    if schema.get("oneOf").is_some_and(has_kinds) {
        return text + &kind_sections(name, schema);
    }
    let mut section = Section::default();
    for (key, property) in properties(schema) {
        section.add(key, property, &format!("{name}."));
    }
    text + &section.to_markdown() + &section.subsections
}

/// A section for each kind of a tagged table whose key is `key`.
fn kind_sections(key: &str, schema: &Value) -> String {
    let mut text = String::new();
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        let kind = kind_of(choice).unwrap_or_default();
        let _ = writeln!(text, "\n### {key}.kind = {kind:?}");
        if let Some(description) = choice["description"].as_str() {
            let _ = writeln!(text, "\n{}", sentence(description));
        }
        let mut section = Section::default();
        properties(choice)
            .into_iter()
            .filter(|(name, _)| *name != "kind")
            .for_each(|(name, property)| section.add(name, property, &format!("{key}.")));
        text += &section.to_markdown();
    }
    text
}

impl Section {
    /// Adds a row for the key `name`, or for each key of a table; tables with kinds get sections.
    fn add(&mut self, name: &str, schema: &Value, prefix: &str) {
        let description = sentence(schema["description"].as_str().unwrap_or_default());
        let default = schema.get("default").map_or_else(String::new, |value| format!("`{}`", toml_of(value)));
        if schema.get("oneOf").is_some_and(has_kinds) {
            let key = format!("{prefix}{name}");
            let kinds: Vec<String> = kinds(schema).map(|kind| format!("`{kind:?}`")).collect();
            let values = format!("a table; `kind` is {}", kinds.join(", "));
            self.rows.push([format!("`{name}`"), values, default, description]);
            self.subsections += &kind_sections(&key, schema);
            return;
        }
        let is_struct = schema["type"] == "object" && schema.get("properties").is_some();
        if !is_struct {
            self.rows.push([format!("`{name}`"), values(schema), default, description]);
            return;
        }
        self.rows.push([format!("`{name}`"), "a table".to_owned(), String::new(), description]);
        for (key, property) in properties(schema) {
            let mut property = property.clone();
            // The defaults of a table that is not set may differ from those of its keys.
            if let (Some(object), Some(defaults)) = (property.as_object_mut(), schema["default"].as_object()) {
                object.remove("default");
                object.extend(defaults.get(key).map(|value| ("default".to_owned(), value.clone())));
            }
            self.add(&format!("{name}.{key}"), &property, prefix);
        }
    }

    fn to_markdown(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut text = String::from("\n| key | values | default | description |\n| --- | --- | --- | --- |\n");
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.clone().map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
        text
    }
}

fn properties(schema: &Value) -> Vec<(&str, &Value)> {
    let object: Option<&Map<String, Value>> = schema["properties"].as_object();
    object.into_iter().flatten().map(|(name, property)| (name.as_str(), property)).collect()
}

/// Whether the choices of a `oneOf` are tables with a `kind`.
fn has_kinds(choices: &Value) -> bool {
    choices.as_array().is_some_and(|all| all.iter().any(|choice| choice["properties"].get("kind").is_some()))
}

fn kinds(schema: &Value) -> impl Iterator<Item = &str> {
    schema["oneOf"].as_array().into_iter().flatten().filter_map(kind_of)
}

/// The `kind` of a choice of a tagged table.
fn kind_of(choice: &Value) -> Option<&str> {
    choice.pointer("/properties/kind/const")?.as_str()
}

/// The allowed values, in words.
fn values(schema: &Value) -> String {
    for choices in ["oneOf", "anyOf"] {
        if let Some(all) = schema[choices].as_array() {
            return all.iter().map(choice).collect::<Vec<_>>().join("; ");
        }
    }
    if let Some(names) = schema["enum"].as_array() {
        return names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    }
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => "`true`, `false`".to_owned(),
        "array" => {
            let (min, max) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
            let count = match (min, max) {
                (Some(min), Some(max)) => format!("{min} to {max} "),
                (None, Some(max)) => format!("up to {max} "),
                _ => String::new(),
            };
            let items = &schema["items"];
            let noun = match items["type"].as_str() {
                Some("string") => "strings",
                Some("integer") => "integers",
                _ => "numbers",
            };
            format!("a list of {count}{noun}{}", range(items).map_or_else(String::new, |range| format!(", {range}")))
        }
        "string" => schema["pattern"].as_str().map_or_else(|| "a string".to_owned(), pattern),
        "integer" => {
            let multiple = schema["multipleOf"].as_f64().map_or_else(String::new, |n| format!(", a multiple of {n}"));
            format!("an integer{}{multiple}", range(schema).map_or_else(String::new, |range| format!(", {range}")))
        }
        "object" if schema["additionalProperties"] == Value::Bool(false) => {
            let keys: Vec<&str> = properties(schema).into_iter().map(|(key, _)| key).collect();
            format!("a table with {}", keys.join(" and "))
        }
        "object" => "a table of strings".to_owned(),
        "number" => range(schema).unwrap_or_else(|| "a number".to_owned()),
        other => other.to_owned(),
    }
}

/// The alternatives of a pattern such as `^(auto|cpu)$`.
fn pattern(pattern: &str) -> String {
    let inner = pattern.trim_start_matches("^(").trim_end_matches(")$");
    let names = inner.split('|').map(|name| format!("`\"{}\"`", name.replace("[0-9]+", "N")));
    names.collect::<Vec<_>>().join(", ")
}

/// A choice of several, with its description.
fn choice(schema: &Value) -> String {
    let value = match schema.get("const") {
        Some(value) => format!("`{value}`"),
        None => values(schema),
    };
    match schema["description"].as_str() {
        Some(description) => {
            format!("{value}: {}", phrase(description))
        }
        None => value,
    }
}

/// The range of a number, such as `0 to below 1`.
fn range(schema: &Value) -> Option<String> {
    // TOML has no larger integer.
    let limit = |name: &str| schema[name].as_f64().filter(|limit| *limit < i64::MAX as f64).map(number);
    let from = limit("minimum").or_else(|| limit("exclusiveMinimum").map(|limit| format!("above {limit}")));
    let to = limit("maximum").or_else(|| limit("exclusiveMaximum").map(|limit| format!("below {limit}")));
    match (from, to) {
        (Some(from), Some(to)) => Some(format!("{from} to {to}")),
        (Some(from), None) => Some(format!("{from} or more")),
        (None, Some(to)) => Some(format!("at most {to}")),
        (None, None) => None,
    }
}

fn number(value: f64) -> String {
    if value >= 1e6 { format!("{value:e}") } else { value.to_string() }
}

/// A default as TOML.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key} = {}", toml_of(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A description as a sentence with a capital letter.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A description as a part of a sentence.
fn phrase(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_described() {
        for (schema, expected) in [
            (json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1}), "0 to below 1"),
            (json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e9}), "above 0 to 1e9"),
            (
                json!({"type": "integer", "minimum": 16, "maximum": 48, "multipleOf": 4}),
                "an integer, 16 to 48, a multiple of 4",
            ),
            (
                json!({"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 8}),
                "a list of up to 8 integers, 1 or more",
            ),
            (json!({"type": "string", "pattern": "^(cpu|cuda:[0-9]+)$"}), "`\"cpu\"`, `\"cuda:N\"`"),
            (json!({"oneOf": [{"const": "a", "description": "First."}, {"const": "b"}]}), "`\"a\"`: first; `\"b\"`"),
            (json!({"type": "boolean"}), "`true`, `false`"),
        ] {
            assert_eq!(values(&schema), expected);
        }
        assert_eq!(toml_of(&json!({"a": [1, 2], "b": "x"})), "{ a = [1, 2], b = \"x\" }");
    }
}
