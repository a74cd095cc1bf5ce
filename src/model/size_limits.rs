//! Limits on the size of a network, checked before any memory is allocated for it.

use crate::util::validate::{InvalidValue, require};

/// Max parameters of a network: 1 GiB of float32.
pub const MAX_PARAMETERS: u64 = 1 << 28;

/// Checks that a network has at most [`MAX_PARAMETERS`].
pub(super) fn require_parameters(parameters: u64) -> Result<(), InvalidValue> {
    let value = format!("{parameters} parameters");
    require(parameters <= MAX_PARAMETERS, "model", value, &format!("at most {MAX_PARAMETERS}"))
}

/// Whether all values are in 1 to `max`.
pub(super) fn are_widths(values: &[i64], max: i64) -> bool {
    values.iter().all(|value| (1..=max).contains(value))
}
