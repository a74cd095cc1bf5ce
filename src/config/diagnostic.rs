//! Error messages about configs: key, line and what is allowed.

use serde_path_to_error::Error as SerdeError;

use super::serde_message::reword;
use crate::util::validate::InvalidValue;

/// Maximum characters of a key or a value in a message.
pub const MAX_SHOWN: usize = 100;

/// What is wrong with a config, and where.
pub struct Diagnostic {
    /// 1-based line in the file, when known.
    pub line: Option<usize>,
    /// Dotted key; empty for the root table.
    pub key: String,
    /// Message, starting with the key.
    pub message: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Diagnostic {
    /// Creates a message about `key` in the config `text`.
    pub fn new(text: &str, key: &str, message: String) -> Self {
        Self { line: find_line(text, key), key: key.to_owned(), message }
    }

    /// Describes a value that is out of range.
    pub fn from_value(text: &str, error: &InvalidValue) -> Self {
        Self::new(text, &error.key, error.to_string())
    }

    /// Describes an error of serde in the table `prefix`, with the full key.
    pub fn from_serde(text: &str, prefix: &str, error: &SerdeError<toml::de::Error>) -> Self {
        let path = error.path().to_string();
        let parts = [prefix, if path == "." { "" } else { &path }];
        let path = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        let (key, message) = reword(&path, error.inner().message().trim());
        Self::new(text, &key, message)
    }
}

/// The 1-based line of a dotted key in `text`: its own `key =`, or else that of the closest table
/// around it.
pub fn find_line(text: &str, key: &str) -> Option<usize> {
    let mut section = String::new();
    let mut best: Option<(usize, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = header.trim().to_owned();
        }
        let full = match line.split_once('=') {
            Some((name, _)) if !line.starts_with(['#', '[']) => join(&section, name.trim().trim_matches('"')),
            _ if line.starts_with('[') => section.clone(),
            _ => continue,
        };
        let contains = key.strip_prefix(&full).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if contains && best.is_none_or(|(length, _)| full.len() > length) {
            best = Some((full.len(), index + 1));
        }
    }
    best.map(|(_, line)| line)
}

/// Joins a table's dotted path and a key in it.
pub fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
