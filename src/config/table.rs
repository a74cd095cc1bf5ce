//! TOML as tables: read, changed by `--set`, compared.

use std::collections::BTreeSet;

use serde::Deserialize as _;
use serde::de::Error as _;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Table, Value};

use super::complaint::join;

/// Parts of the longest dotted key in --set; no key of a config has more than 4.
const DEEPEST_KEY: usize = 16;

/// Levels of tables and arrays within one another that are read; a config has 4.
const DEEPEST_TABLE: usize = 32;

/// TOML as a table. Text that nests thousands of tables is refused before anything follows them, which takes stack.
///
/// # Errors
/// What the TOML reader says, with its place.
pub fn read_table(text: &str) -> Result<Table, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let mut level: Vec<&DeValue<'_>> = table.get_ref().values().map(|value| value.get_ref()).collect();
    for _ in 0..DEEPEST_TABLE {
        level = level.into_iter().flat_map(within).collect();
    }
    if !level.is_empty() {
        return Err(toml::de::Error::custom(format!("tables within tables, more than {DEEPEST_TABLE} deep")));
    }
    Table::deserialize(Deserializer::from(table))
}

/// The values within a value.
fn within<'a, 'text>(value: &'a DeValue<'text>) -> Vec<&'a DeValue<'text>> {
    match value {
        DeValue::Table(table) => table.values().map(|value| value.get_ref()).collect(),
        DeValue::Array(values) => values.iter().map(|value| value.get_ref()).collect(),
        _ => Vec::new(),
    }
}

/// Lays `key.path=value` over `table`. The value is TOML, or else a string; a table is added to the one that is there,
/// unless it names another `kind`.
///
/// # Errors
/// What is wrong with the key.
pub fn apply(table: &mut Table, set: &str) -> Result<(), String> {
    let (key, text) = set.split_once('=').ok_or("expected key=value, such as train.batch=128")?;
    let parts: Vec<&str> = key.trim().split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("the key is empty or has an empty part; expected key=value, such as train.batch=128".into());
    }
    if parts.len() > DEEPEST_KEY {
        return Err(format!("the key has more than {DEEPEST_KEY} parts; expected key=value, such as train.batch=128"));
    }
    let value = parse_value(text.trim());
    let (last, folders) = parts.split_last().ok_or("the key is empty")?;
    let mut place = table;
    for folder in folders {
        let entry = place.entry((*folder).to_owned()).or_insert_with(|| Value::Table(Table::new()));
        place = entry.as_table_mut().ok_or_else(|| format!("{folder} is not a table, so it has no key {last}"))?;
    }
    match (place.get_mut(*last), value) {
        (Some(Value::Table(old)), Value::Table(new))
            if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
        {
            old.extend(new);
        }
        (_, value) => {
            place.insert((*last).to_owned(), value);
        }
    }
    Ok(())
}

fn parse_value(text: &str) -> Value {
    read_table(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The dotted keys at which two resolved configs differ, sorted.
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

/// The value at a dotted key as a person reads it; `unset` where there is none.
pub fn shown_key(table: &Table, key: &str) -> String {
    let mut value = None;
    let mut place = Some(table);
    for part in key.split('.') {
        value = place.and_then(|table| table.get(part));
        place = value.and_then(Value::as_table);
    }
    value.map_or("unset".into(), ToString::to_string)
}
