//! TOML tables: parse, compare, look up a key.

use std::collections::BTreeSet;

use serde::Deserialize as _;
use serde::de::Error as _;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Table, Value};

use super::diagnostic::join;

/// Maximum nesting of tables and arrays; a config has 4 levels.
const MAX_DEPTH: usize = 32;

/// Parses TOML. Deep nesting is refused before anything recursive visits it, which would overflow
/// the stack.
///
/// # Errors
/// The error of the TOML parser, with its position.
pub fn read_table(text: &str) -> Result<Table, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let mut level: Vec<&DeValue<'_>> = table.get_ref().values().map(|value| value.get_ref()).collect();
    for _ in 0..MAX_DEPTH {
        level = level.into_iter().flat_map(children).collect();
    }
    if !level.is_empty() {
        return Err(toml::de::Error::custom(format!("tables are nested more than {MAX_DEPTH} deep")));
    }
    Table::deserialize(Deserializer::from(table))
}

/// The values in a table or an array.
fn children<'a, 'text>(value: &'a DeValue<'text>) -> Vec<&'a DeValue<'text>> {
    match value {
        DeValue::Table(table) => table.values().map(|value| value.get_ref()).collect(),
        DeValue::Array(values) => values.iter().map(|value| value.get_ref()).collect(),
        _ => Vec::new(),
    }
}

/// The dotted keys whose values differ between two resolved configs, sorted.
pub fn differing_keys(old: &Table, new: &Table) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                found.extend(differing_keys(old, new).into_iter().map(|key| join(name, &key)));
            }
            (old, new) if old != new => found.push(name.clone()),
            _ => {}
        }
    }
    found
}

/// Formats the value of a dotted key as TOML; `unset` when it is missing.
pub fn format_value(table: &Table, key: &str) -> String {
    value_at(table, key).map_or("unset".into(), ToString::to_string)
}

/// The value of a dotted key.
pub fn value_at<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut parts = path.split('.').filter(|part| !part.is_empty());
    let parent = parts.try_fold(table, |table, part| table.get(part)?.as_table());
    parent?.get(name)
}
