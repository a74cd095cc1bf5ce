//! TOML as tables: read, changed by `--set`, compared.

use std::collections::BTreeSet;

use serde::Deserialize as _;
use serde::de::Error as _;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Table, Value};

use super::diagnostic::join;

/// Levels of tables and arrays within one another that are read; a config has 4.
const MAX_TABLE: usize = 32;

/// TOML as a table. Text that nests thousands of tables is refused before anything follows them, which takes stack.
///
/// # Errors
/// What the TOML reader says, with its place.
pub fn read_table(text: &str) -> Result<Table, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let mut level: Vec<&DeValue<'_>> = table.get_ref().values().map(|value| value.get_ref()).collect();
    for _ in 0..MAX_TABLE {
        level = level.into_iter().flat_map(within).collect();
    }
    if !level.is_empty() {
        return Err(toml::de::Error::custom(format!("tables within tables, more than {MAX_TABLE} deep")));
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
