//! Range checks of config values.

use std::fmt::Display;

/// A config value that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value} is not allowed: expected {expected}")]
pub struct InvalidValue {
    /// Dotted key, such as `train.batch`.
    pub key: String,
    /// The value found.
    pub value: String,
    /// The values that are allowed.
    pub expected: String,
}

/// Returns an error unless `valid`.
pub fn require(valid: bool, key: &str, value: impl Display, expected: &str) -> Result<(), InvalidValue> {
    if valid {
        return Ok(());
    }
    Err(InvalidValue { key: key.to_owned(), value: value.to_string(), expected: expected.to_owned() })
}

/// Checks that a seed fits into a TOML integer, so that a config can be written back.
pub fn check_seed(key: &str, seed: u64) -> Result<(), InvalidValue> {
    require(seed <= i64::MAX as u64, key, seed, "at most 9223372036854775807, TOML's maximum integer")
}
