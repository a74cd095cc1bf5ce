//! `--set key=value`.

use toml::{Table, Value};

use super::toml_table::read_table;

/// Parts of the longest dotted key in --set; no key of a config has more than 4.
const MAX_KEY: usize = 16;

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
    if parts.len() > MAX_KEY {
        return Err(format!("the key has more than {MAX_KEY} parts; expected key=value, such as train.batch=128"));
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
