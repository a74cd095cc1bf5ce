//! serde's messages about a config in the wording of the other messages: the key first, no backticks,
//! no names of Rust types.

use toml::Value;

use super::diagnostic::{MAX_SHOWN, join};
use crate::util::text::short;

/// Keys of earlier versions, and what to write instead.
const RENAMED: [(&str, &str); 2] = [
    ("data.keep_copies_together", "data.group_duplicates"),
    ("predict.views", "predict.tta, whose values are none (before: one), flip and ten_crop (before: ten_crops)"),
];

/// serde's names of types, and their replacements.
const TYPES: [(&str, &str); 10] = [
    ("usize", "an integer, 0 or more"),
    ("u64", "an integer, 0 or more"),
    ("u32", "an integer, 0 or more"),
    ("u8", "an integer, 0 or more"),
    ("u16", "an integer, 0 or more"),
    ("i64", "an integer"),
    ("a sequence", "an array"),
    ("f64", "a number"),
    ("string only", "a string"),
    ("variant identifier", "a string"),
];

/// Rewords a message of serde about the key `path`, or about a key in the table `path`. Returns the
/// dotted key and the message, which starts with it.
pub fn reword(path: &str, message: &str) -> (String, String) {
    let unchanged = || (path.to_owned(), with_key(path, ": ", message));
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown_key(path, rest).unwrap_or_else(unchanged);
    }
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let key = join(path, field);
        let message = format!("{key}: missing; this key is required");
        return (key, message);
    }
    if let Some((variant, expected)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "))
    {
        let found = format!("{:?} is not allowed: expected {}", short(variant, MAX_SHOWN), expected.replace('`', "\""));
        return (path.to_owned(), with_key(path, " = ", &found));
    }
    let wrong_type = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong_type.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => (path.to_owned(), mismatch(path, found, expected)),
        None => unchanged(),
    }
}

/// Describes a value of the wrong type.
pub fn wrong_type(key: &str, value: &Value, expected: &str) -> String {
    match value {
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => mismatch(key, &format!("`{value}`"), expected),
        Value::String(text) => mismatch(key, &format!("string {text:?}"), expected),
        _ => mismatch(key, value.type_str(), expected),
    }
}

/// An unknown key in the table `path`, or at it; `rest` is serde's message after "unknown field `".
fn unknown_key(path: &str, rest: &str) -> Option<(String, String)> {
    let (field, expected) = match rest.rsplit_once("`, expected ") {
        Some((field, expected)) => (field, format!("expected {}", expected.replace('`', ""))),
        None => (rest.strip_suffix("`, there are no fields")?, "this table has no such keys".to_owned()),
    };
    // serde's path ends at the table, or at the key itself.
    let parent = match path.strip_suffix(field) {
        Some("") => "",
        Some(parent) if parent.ends_with('.') => parent.trim_end_matches('.'),
        _ => path,
    };
    let key = join(parent, field);
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
        let message = format!("{key}: this key was renamed; use {new}");
        return Some((key, message));
    }
    // A key in untrusted input can have any length and, in quotes, any characters.
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let shown = short(field, MAX_SHOWN);
    let shown = if field.chars().all(is_bare) { shown } else { format!("{shown:?}") };
    let message = format!("{}: unknown key; {expected}", join(&short(parent, MAX_SHOWN), &shown));
    Some((key, message))
}

/// Describes what serde found, such as "integer `3`", where it expected another type.
fn mismatch(key: &str, found: &str, expected: &str) -> String {
    let is_table = ["internally tagged enum ", "struct "].iter().any(|start| expected.starts_with(start));
    let named = TYPES.iter().find(|(name, _)| *name == expected).map_or(expected, |(_, plain)| plain);
    let is_too_large = expected == "u32" && found.starts_with("integer `") && !found.starts_with("integer `-");
    let expected = match () {
        () if is_table => "a table",
        () if is_too_large => "an integer from 0 to 4294967295",
        () => named,
    };
    let text = found.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
    let literal = found.strip_suffix('`').and_then(|text| text.split_once('`'));
    let value = match (text, literal) {
        (Some(text), _) => Some(format!("\"{}\"", short(text, MAX_SHOWN))),
        (None, Some((_, literal))) => Some(short(literal, MAX_SHOWN)),
        (None, None) => None,
    };
    match (value, found) {
        (Some(value), _) => with_key(key, " = ", &format!("{value} is not allowed: expected {expected}")),
        (None, "map" | "table") => with_key(key, " ", &format!("is a table; expected {expected}")),
        (None, "sequence" | "array") => with_key(key, " ", &format!("is an array; expected {expected}")),
        (None, "datetime") => with_key(key, " ", &format!("is a date; expected {expected}")),
        (None, _) => with_key(key, ": ", &format!("expected {expected}")),
    }
}

fn with_key(key: &str, between: &str, message: &str) -> String {
    if key.is_empty() { message.to_owned() } else { format!("{}{between}{message}", short(key, MAX_SHOWN)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_key_and_what_is_allowed() {
        for (path, serde, expected) in [
            (
                "train",
                "unknown field `bacth`, expected one of `epochs`, `batch`",
                "train.bacth: unknown key; expected one of epochs, batch",
            ),
            ("train.bacth", "unknown field `bacth`, expected `batch`", "train.bacth: unknown key; expected batch"),
            ("", "unknown field `a.b`, expected `c` or `d`", "\"a.b\": unknown key; expected c or d"),
            ("xa", "unknown field `a`, expected `b`", "xa.a: unknown key; expected b"),
            ("train.schedule", "unknown field `hold`, there are no fields", "train.schedule.hold: unknown key; this "),
            ("a", "unknown field `b`, expected `c`, expected `d`", "a.\"b`, expected `c\": unknown key; expected d"),
            ("data", "missing field `train`", "data.train: missing; this key is required"),
            ("", "missing field `name`", "name: missing; this key is required"),
            (
                "train.sampling",
                "unknown variant `x`, expected `shuffle` or `balanced`",
                "train.sampling = \"x\" is not allowed: expected \"shuffle\" or \"balanced\"",
            ),
            (
                "seed",
                "invalid value: integer `-1`, expected u64",
                "seed = -1 is not allowed: expected an integer, 0 or",
            ),
            (
                "a",
                "invalid type: string \"abc\", expected u32",
                "a = \"abc\" is not allowed: expected an integer, 0 or m",
            ),
            ("a", "invalid value: integer `-1`, expected u32", "a = -1 is not allowed: expected an integer, 0 or more"),
            (
                "a",
                "invalid value: integer `5000000000`, expected u32",
                "a = 5000000000 is not allowed: expected an integer from 0 to 4",
            ),
            ("a", "invalid type: string \"x\", expected a sequence", "a = \"x\" is not allowed: expected an array"),
            ("name", "invalid type: integer `3`, expected a string", "name = 3 is not allowed: expected a string"),
            ("a", "invalid type: string \"x\", expected f64", "a = \"x\" is not allowed: expected a number"),
            ("a", "invalid type: string \"`, expected u8`\", expected i64", "a = \"`, expected u8`\" is not allowed"),
            (
                "data",
                "invalid type: integer `3`, expected struct DataConfig",
                "data = 3 is not allowed: expected a table",
            ),
            ("a[1]", "invalid type: sequence, expected a boolean", "a[1] is an array; expected a boolean"),
            ("a", "invalid type: map, expected a string", "a is a table; expected a string"),
            ("precision", "invalid type: unit variant, expected string only", "precision: expected a string"),
            ("device", "unknown device \"gpu\"", "device: unknown device \"gpu\""),
            ("", "anything else", "anything else"),
        ] {
            let (_, message) = reword(path, serde);
            assert!(message.starts_with(expected), "{message}, expected {expected}");
        }
        let table = Value::Table(toml::Table::new());
        assert_eq!(wrong_type("a", &table, "a string"), "a is a table; expected a string");
        assert_eq!(wrong_type("a", &Value::Boolean(true), "a table"), "a = true is not allowed: expected a table");
        assert_eq!(wrong_type("a", &"x".into(), "a table"), "a = \"x\" is not allowed: expected a table");
    }

    #[test]
    fn renamed_keys_name_their_successor() {
        let (key, message) = reword("data", "unknown field `keep_copies_together`, expected `train`");
        assert_eq!(key, "data.keep_copies_together");
        assert_eq!(message, "data.keep_copies_together: this key was renamed; use data.group_duplicates");
        let (_, message) = reword("predict.views", "unknown field `views`, expected `tta`");
        assert!(message.contains("use predict.tta") && message.contains("ten_crop (before: ten_crops)"), "{message}");
    }

    #[test]
    fn long_input_is_shortened() {
        let long = "x".repeat(10_000);
        for message in [
            format!("unknown field `{long}`, expected `a`"),
            format!("unknown variant `{long}`, expected `a`"),
            format!("invalid type: string \"{long}\", expected i64"),
        ] {
            assert!(reword("a", &message).1.len() < 300);
            assert!(reword(&long, &message).1.len() < 500);
        }
    }
}
