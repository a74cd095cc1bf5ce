//! Overrides that change the `kind` of a table, whose other keys stay.

use toml::{Table, Value};

use super::diagnostic::Diagnostic;
use super::load::{ConfigFile, ParseTable};
use super::overrides::Override;

/// Explains an unknown key that an override did not set: the file sets it for the `kind` that the
/// override replaced. `file` is the config in the file `source`, `table` the one with overrides.
pub fn explain<C: ConfigFile>(
    source: &str,
    file: &Table,
    table: &Table,
    overrides: &[Override<'_>],
    problem: &Diagnostic,
) -> Option<String> {
    let (file, table) = (C::with_defaults(file.clone()), C::with_defaults(table.clone()));
    C::TAGGED_TABLES.iter().find_map(|(path, parse)| {
        let (old, new) = (inner(&file, path)?, inner(&table, path)?);
        let (old_kind, new_kind) = (kind(old)?, kind(new)?);
        let path = path.join(".");
        let key = problem.key.strip_prefix(&path)?.strip_prefix('.')?;
        let set_by_user = overrides.iter().any(|item| item.key() == problem.key);
        if old_kind == new_kind || set_by_user || !old.contains_key(key) {
            return None;
        }
        let changed = overrides.iter().rev().find(|item| item.key() == format!("{path}.kind"))?;
        let (applicable, foreign): (Vec<_>, Vec<_>) = new
            .iter()
            .filter(|(key, _)| *key != "kind")
            .partition(|(key, value)| applies(*parse, new_kind, key, value));
        let foreign: Vec<&str> = foreign.into_iter().map(|(key, _)| key.as_str()).collect();
        let entries: String = applicable.into_iter().map(|(key, value)| format!(", {key}={value}")).collect();
        let replacement = format!("{path}={{kind={new_kind:?}{entries}}}");
        let replacement = shlex::try_join([replacement.as_str()]).ok()?;
        Some(format!(
            "{source} with {changed}: {path}.kind changed from {old_kind:?} to {new_kind:?}, which has no {}; replace the table: {} {replacement}",
            foreign.join(", "),
            changed.option,
        ))
    })
}

/// The table at `path`.
fn inner<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter().try_fold(table, |table, name| table.get(*name).and_then(Value::as_table))
}

fn kind(table: &Table) -> Option<&str> {
    table.get("kind").and_then(Value::as_str)
}

/// Whether a table of this kind has the key.
fn applies(parse: ParseTable, kind: &str, key: &str, value: &Value) -> bool {
    let entries = [("kind".to_owned(), Value::from(kind)), (key.to_owned(), value.clone())];
    parse(entries.into_iter().collect())
        .map_or_else(|error| !error.inner().message().contains("unknown field"), |()| true)
}
