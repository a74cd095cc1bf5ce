//! Overrides on the command line: `--set key=value`.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use super::diagnostic::MAX_SHOWN;
use super::toml_table::read_table;
use crate::util::text::short;

/// A config key overridden on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Override<'a> {
    /// `--set` or `--vary`, for error messages.
    pub option: &'static str,
    /// `key=value` with a dotted key.
    pub text: &'a str,
}

impl Override<'_> {
    /// The dotted key.
    pub fn key(&self) -> &str {
        self.text.split('=').next().unwrap_or_default().trim()
    }
}

impl fmt::Display for Override<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, short(self.text, MAX_SHOWN))
    }
}

/// Maximum parts of a dotted key; the keys of a config have at most 4.
const MAX_KEY_PARTS: usize = 16;

/// Sets `key.path=value` in `table`. The value is TOML, or else a string. A table is merged into an
/// existing table, unless it has another `kind`.
///
/// # Errors
/// What is wrong with the key.
pub fn apply(table: &mut Table, set: &str) -> Result<()> {
    let (key, text) = set.split_once('=').context("expected key=value, such as train.batch=128")?;
    let parts: Vec<&str> = key.trim().split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        bail!("the key is empty or has an empty part; expected key=value, such as train.batch=128");
    }
    if parts.len() > MAX_KEY_PARTS {
        bail!("the key has more than {MAX_KEY_PARTS} parts; expected key=value, such as train.batch=128");
    }
    let value = parse_value(text.trim());
    let (last, parents) = parts.split_last().context("the key is empty")?;
    let mut target = table;
    for parent in parents {
        let entry = target.entry((*parent).to_owned()).or_insert_with(|| Value::Table(Table::new()));
        target = entry.as_table_mut().with_context(|| format!("{parent} is not a table, so it has no key {last}"))?;
    }
    match (target.get_mut(*last), value) {
        (Some(Value::Table(old)), Value::Table(new))
            if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
        {
            old.extend(new);
        }
        (_, value) => {
            target.insert((*last).to_owned(), value);
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
