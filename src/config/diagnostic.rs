//! What is wrong with a config, in words for people: key and line, and no names of Rust's types.

use toml::Value;

use crate::util::text::short;

/// Characters of a key or a value that a message repeats.
pub const MAX_SHOWN: usize = 100;

/// What is wrong and, as far as it can be told, where.
pub struct Diagnostic {
    pub line: Option<usize>,
    pub path: String,
    pub message: String,
}

impl Diagnostic {
    /// The key it is about.
    pub fn key(&self) -> String {
        // Messages of range checks begin with the key; serde's come with a path.
        if self.path.is_empty() { key_of(&self.message).to_owned() } else { self.path.clone() }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What serde says and at which key.
pub struct SerdeMessage {
    path: String,
    message: String,
}

impl From<serde_path_to_error::Error<toml::de::Error>> for SerdeMessage {
    fn from(error: serde_path_to_error::Error<toml::de::Error>) -> Self {
        let path = error.path().to_string();
        Self {
            path: if path == "." { String::new() } else { path },
            message: error.inner().message().trim().to_owned(),
        }
    }
}

/// How serde's messages end that speak of Rust's types, and what a person calls them.
const TYPES: [(&str, &str); 6] = [
    ("expected usize", "expected an integer, 0 or more"),
    ("expected u64", "expected an integer, 0 or more"),
    ("expected u32", "expected an integer from 0 to 4294967295"),
    ("expected i64", "expected an integer"),
    ("expected f64", "expected a number"),
    ("unit variant, expected string only", "expected a string"),
];

/// What serde says, without names of Rust types.
fn describe(message: &str) -> String {
    let table = ["expected internally tagged enum ", "expected struct "];
    if let Some((before, _)) = table.iter().find_map(|words| message.split_once(words)) {
        return format!("{before}expected a table");
    }
    let typed = TYPES.iter().find_map(|(words, plain)| Some((message.strip_suffix(words)?, plain)));
    typed.map_or(message.to_owned(), |(before, plain)| format!("{before}{plain}"))
}

/// A value and its type, as serde says them.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("string {:?}", short(text, MAX_SHOWN)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => format!("{} `{value}`", value.type_str()),
        _ => value.type_str().to_owned(),
    }
}

/// The key that a message of a range check begins with.
pub fn key_of(message: &str) -> &str {
    message.split([' ', ':']).next().unwrap_or_default()
}

/// A message as a person reads it: with the whole key, its line, and no names of Rust types.
pub fn problem(prefix: &str, message: &SerdeMessage, text: &str) -> Diagnostic {
    let path = [prefix, &message.path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
    let message = describe(&message.message);
    // serde names an unknown key in backquotes; the path leads to the table it is in, or to itself.
    let full = match message.split('`').nth(1) {
        Some(field)
            if message.starts_with("unknown field") && path != field && !path.ends_with(&format!(".{field}")) =>
        {
            join(&path, field)
        }
        _ => path,
    };
    // A hostile key may be of any length.
    let message = match message.split('`').nth(1) {
        Some(field) => message.replacen(field, &short(field, MAX_SHOWN), 1),
        None => message,
    };
    let shown = if full.is_empty() { message } else { format!("{}: {message}", short(&full, MAX_SHOWN)) };
    Diagnostic { line: find_line(text, &full), path: full, message: shown }
}

/// The 1-based line where a dotted key stands in the file: its own `key =`, or else that of the table around it.
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
        let within = key.strip_prefix(&full).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        if within && best.is_none_or(|(length, _)| full.len() > length) {
            best = Some((full.len(), index + 1));
        }
    }
    best.map(|(_, line)| line)
}

/// A key within the table at `path`.
pub fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
