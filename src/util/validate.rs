//! Range checks of config values.

/// Checks that a value is allowed.
///
/// # Errors
/// Key, value, and what is allowed.
pub fn require(holds: bool, key: &str, value: impl std::fmt::Display, allowed: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} = {value} is not allowed: expected {allowed}")) }
}
