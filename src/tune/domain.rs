//! The values that a search may give a key.

use std::fmt::{self, Display, Formatter};

use toml::Value;

/// Significant digits of a sampled number: more say nothing about a config, and are hard to read.
const DIGITS: usize = 4;

/// Integers of a range that are all checked against the config.
const MAX_CHECKED: f64 = 1000.0;

/// The values of a key. The sampler sees positions in \[0, 1\].
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Numbers from `low` to `high`, uniform in the logarithm; `low` is above 0.
    Log {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// Numbers from `low` to `high`.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// Integers from `low` in steps of `step` to at most `high`.
    Int {
        /// Smallest value.
        low: i64,
        /// Upper bound, itself included.
        high: i64,
        /// Distance of neighbors, at least 1; above 1 only if `log` is not set.
        step: i64,
        /// Uniform in the logarithm; `low` is then above 0.
        log: bool,
    },
    /// One of these values.
    Choice(Vec<Value>),
}

impl Domain {
    /// Number of options without an order; `None` for numbers.
    pub fn options(&self) -> Option<usize> {
        match self {
            Self::Choice(values) => Some(values.len()),
            _ => None,
        }
    }

    /// Number of values; `None` for numbers that are not integers.
    pub fn count(&self) -> Option<f64> {
        match self {
            Self::Log { .. } | Self::Uniform { .. } => None,
            Self::Int { low, high, step, .. } => Some(count(*low, *high, *step)),
            Self::Choice(values) => Some(values.len() as f64),
        }
    }

    /// The integer or option `index`, from 0.
    pub fn nth(&self, index: u64) -> Option<Value> {
        match self {
            Self::Log { .. } | Self::Uniform { .. } => None,
            Self::Int { low, step, .. } => {
                let offset = i64::try_from(index).ok()?.checked_mul(*step)?;
                low.checked_add(offset).map(Value::Integer)
            }
            Self::Choice(values) => values.get(usize::try_from(index).ok()?).cloned(),
        }
    }

    /// Whether an axis of its values is logarithmic.
    pub fn is_logarithmic(&self) -> bool {
        matches!(self, Self::Log { .. } | Self::Int { log: true, .. })
    }

    /// The value at a position in \[0, 1\]. Numbers have four significant digits.
    pub fn value(&self, position: f64) -> Value {
        let position = position.clamp(0.0, 1.0);
        match self {
            Self::Log { low, high } => {
                let value = (low.ln() + position * (high.ln() - low.ln())).exp();
                Value::Float(rounded(value).clamp(*low, *high))
            }
            Self::Uniform { low, high } => Value::Float(rounded(low + position * (high - low)).clamp(*low, *high)),
            Self::Int { low, high, log: true, .. } => {
                let (start, end) = log_ends(*low, *high);
                let value = (start + position * (end - start)).exp().round();
                Value::Integer((value as i64).clamp(*low, *high))
            }
            Self::Int { low, high, step, log: false } => {
                let steps = (position * count(*low, *high, *step)) as i128;
                let value = i128::from(*low) + steps.saturating_mul(i128::from(*step));
                let last = last(*low, *high, *step);
                Value::Integer(i64::try_from(value).map_or(last, |value| value.min(last)))
            }
            Self::Choice(values) => {
                let index = ((position * values.len() as f64) as usize).min(values.len().saturating_sub(1));
                values.get(index).cloned().unwrap_or(Value::Boolean(false))
            }
        }
    }

    /// The position of a value, that of an integer or an option in the middle of its share; `None` for
    /// a value that is not in the domain.
    pub fn position(&self, value: &Value) -> Option<f64> {
        let position = match (self, value) {
            (Self::Log { low, high }, Value::Float(value)) => (value.ln() - low.ln()) / (high.ln() - low.ln()),
            (Self::Uniform { low, high }, Value::Float(value)) => (value - low) / (high - low),
            (Self::Int { low, high, log: true, .. }, Value::Integer(value)) => {
                let (start, end) = log_ends(*low, *high);
                ((*value as f64).ln() - start) / (end - start)
            }
            (Self::Int { low, high, step, log: false }, Value::Integer(value)) => {
                ((*value as f64 - *low as f64) / *step as f64 + 0.5) / count(*low, *high, *step)
            }
            (Self::Choice(values), value) => {
                let index = values.iter().position(|other| other == value)?;
                (index as f64 + 0.5) / values.len() as f64
            }
            _ => return None,
        };
        (0.0..=1.0).contains(&position).then_some(position)
    }

    /// The options of a choice.
    pub fn choices(&self) -> &[Value] {
        if let Self::Choice(values) = self { values } else { &[] }
    }

    /// `value` as a number of this domain, which it may be outside of; `None` if it is none, or between
    /// two steps.
    pub fn number(&self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Log { .. } | Self::Uniform { .. }, Value::Integer(value)) => Some(Value::Float(*value as f64)),
            (Self::Log { .. } | Self::Uniform { .. }, Value::Float(_)) => Some(value.clone()),
            (Self::Int { low, step, .. }, Value::Integer(number)) => {
                (number.checked_sub(*low)? % step == 0).then(|| value.clone())
            }
            // A key of the config may be a number with decimals, searched in whole numbers.
            (Self::Int { low, step, .. }, Value::Float(number)) => {
                let whole = *number as i64;
                (whole as f64 == *number && whole.checked_sub(*low)? % step == 0).then_some(Value::Integer(whole))
            }
            _ => None,
        }
    }

    /// Values with which a config is checked: the ends, every option, or all of a few integers.
    pub fn checked_values(&self) -> Vec<Value> {
        match self {
            Self::Log { low, high } | Self::Uniform { low, high } => vec![Value::Float(*low), Value::Float(*high)],
            Self::Int { low, high, step, .. } if count(*low, *high, *step) <= MAX_CHECKED => {
                let values = std::iter::successors(Some(*low), |value| value.checked_add(*step));
                values.take_while(|value| value <= high).map(Value::Integer).collect()
            }
            Self::Int { low, high, step, .. } => {
                vec![Value::Integer(*low), Value::Integer(last(*low, *high, *step))]
            }
            Self::Choice(values) => values.clone(),
        }
    }
}

impl Display for Domain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { low, high } => write!(f, "{{ log = [{low:?}, {high:?}] }}"),
            Self::Uniform { low, high } => write!(f, "{{ uniform = [{low:?}, {high:?}] }}"),
            Self::Int { low, high, log: true, .. } => write!(f, "{{ int = [{low}, {high}], log = true }}"),
            Self::Int { low, high, step: 1, .. } => write!(f, "{{ int = [{low}, {high}] }}"),
            Self::Int { low, high, step, .. } => write!(f, "{{ int = [{low}, {high}], step = {step} }}"),
            Self::Choice(values) => write!(f, "{{ choice = {} }}", Value::Array(values.clone())),
        }
    }
}

/// Number of integers from `low` in steps of `step` to at most `high`.
fn count(low: i64, high: i64, step: i64) -> f64 {
    ((high as f64 - low as f64) / step as f64).floor() + 1.0
}

/// The largest of these integers.
fn last(low: i64, high: i64, step: i64) -> i64 {
    let rest = (i128::from(high) - i128::from(low)) % i128::from(step.max(1));
    i64::try_from(i128::from(high) - rest).unwrap_or(high)
}

/// Logarithms of the ends of integers from `low` to `high`: half of one beyond, so that each has the
/// part of the axis that is rounded to it.
fn log_ends(low: i64, high: i64) -> (f64, f64) {
    ((low as f64 - 0.5).ln(), (high as f64 + 0.5).ln())
}

fn rounded(value: f64) -> f64 {
    format!("{value:.*e}", DIGITS - 1).parse().unwrap_or(value)
}

/// A value as TOML; a tiny or huge number with an exponent.
pub fn toml_text(value: &Value) -> String {
    match value.as_float() {
        Some(number) if number != 0.0 && !(1e-4..1e15).contains(&number.abs()) => format!("{number:e}"),
        _ => value.to_string(),
    }
}

/// A value as tables show it: a string without quotes, all else as TOML.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| toml_text(value), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_values_are_inverse() {
        let log = Domain::Log { low: 1e-4, high: 1e-2 };
        assert_eq!(log.value(0.5), Value::Float(1e-3));
        assert_eq!(log.value(0.123), Value::Float(1.762e-4), "four digits");
        assert!((log.position(&Value::Float(1e-3)).unwrap() - 0.5).abs() < 1e-12);
        let uniform = Domain::Uniform { low: -1.0, high: 3.0 };
        assert_eq!((uniform.value(0.25), uniform.position(&Value::Float(0.0))), (Value::Float(0.0), Some(0.25)));
        let int = Domain::Int { low: 2, high: 5, step: 1, log: false };
        let values: Vec<Value> = [0.0, 0.24, 0.26, 0.6, 0.76, 1.0].iter().map(|p| int.value(*p)).collect();
        assert_eq!(values, [2, 2, 3, 4, 5, 5].map(Value::Integer));
        assert!((2..=5).all(|n| int.value(int.position(&Value::Integer(n)).unwrap()) == Value::Integer(n)));
        let choice = Domain::Choice(vec![Value::from("a"), Value::from(3), Value::from(vec![1, 2])]);
        for value in choice.checked_values() {
            assert_eq!(choice.value(choice.position(&value).unwrap()), value);
        }
        assert_eq!((choice.value(0.0), choice.value(1.0)), (Value::from("a"), Value::from(vec![1, 2])));
    }

    #[test]
    fn integers_may_have_a_step_or_a_logarithm() {
        let steps = Domain::Int { low: 16, high: 70, step: 16, log: false };
        let values: Vec<Value> = [0.0, 0.3, 0.6, 0.99, 1.0].iter().map(|p| steps.value(*p)).collect();
        assert_eq!(values, [16, 32, 48, 64, 64].map(Value::Integer));
        assert_eq!(steps.checked_values(), [16, 32, 48, 64].map(Value::Integer));
        let many = Domain::Int { low: 0, high: 4001, step: 2, log: false };
        assert_eq!(many.checked_values(), [0, 4000].map(Value::Integer));
        let log = Domain::Int { low: 1, high: 100, step: 1, log: true };
        assert_eq!((log.value(0.0), log.value(1.0)), (Value::Integer(1), Value::Integer(100)));
        // exp of half way between ln 0.5 and ln 100.5 is 7.09.
        assert_eq!(log.value(0.5), Value::Integer(7));
        let numbers =
            [Value::Float(48.0), Value::Float(40.0), Value::Float(48.5), Value::Integer(48), Value::from("48")];
        let whole = numbers.iter().map(|value| steps.number(value)).collect::<Vec<_>>();
        assert_eq!(whole, [Some(Value::Integer(48)), None, None, Some(Value::Integer(48)), None]);
        for domain in [steps, log] {
            for position in (0..=20).map(|part| f64::from(part) / 20.0) {
                let value = domain.value(position);
                assert_eq!(domain.value(domain.position(&value).unwrap()), value, "{domain} {position}");
            }
        }
    }

    #[test]
    fn numbers_are_short_and_exact() {
        for (number, expected) in [(1.055e-20, "1.055e-20"), (1e-4, "0.0001"), (0.0, "0.0"), (-2.5e300, "-2.5e300")] {
            let value = Value::Float(number);
            assert_eq!(toml_text(&value), expected);
            let read: toml::Table = format!("x = {expected}").parse().unwrap();
            assert_eq!(read["x"], value);
        }
    }

    #[test]
    fn values_stay_within_the_ends() {
        let log = Domain::Log { low: 0.000_123_456, high: 0.000_123_457 };
        let value = log.value(0.0).as_float().unwrap();
        assert!((0.000_123_456..=0.000_123_457).contains(&value), "rounding does not leave the domain: {value}");
        let wide = Domain::Int { low: i64::MIN, high: i64::MAX, step: 1, log: false };
        assert_eq!((wide.value(0.0), wide.value(1.0)), (Value::Integer(i64::MIN), Value::Integer(i64::MAX)));
        for value in [Value::Float(1.0), Value::Integer(1), Value::Float(f64::NAN)] {
            assert_eq!(log.position(&value), None);
        }
    }
}
