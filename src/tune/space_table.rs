//! The TOML of a space: sets of values by key.

use toml::{Table, Value};

use super::domain::Domain;
use super::space::Parameter;
use crate::util::text::short;

/// Kinds of domains, as they are written.
const KINDS: [&str; 4] = ["log", "uniform", "int", "choice"];

/// What a parameter has to look like, for messages.
pub const EXPECTED: &str =
    "one of { log = [LOW, HIGH] }, { uniform = [LOW, HIGH] }, { int = [LOW, HIGH] }, { choice = [A, B, ...] }";

/// Characters of a value in a message.
const MAX_SHOWN: usize = 100;

/// Adds the parameters in `table`, whose own key is `path`. The error is a key and what is wrong with
/// it.
pub fn collect(table: &Table, path: &str, found: &mut Vec<Parameter>) -> Result<(), (String, String)> {
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let shown = || short(&value.to_string(), MAX_SHOWN);
        let wrong = |problem: String| (key.clone(), format!("{key} = {}: {problem}", shown()));
        let Some(inner) = value.as_table() else {
            return Err(wrong(format!("is not a set of values; expected {EXPECTED}")));
        };
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| inner.contains_key(*kind)).collect();
        let domain = match kinds.as_slice() {
            [] if inner.is_empty() => return Err(wrong(format!("is not a set of values; expected {EXPECTED}"))),
            [] => {
                collect(inner, &key, found)?;
                continue;
            }
            // `log` beside `int` is an option of it.
            ["int"] | ["log", "int"] => integers(inner),
            [kind] if inner.len() == 1 => array(inner, kind).and_then(|values| domain(kind, values)),
            _ => Err(format!("has more than one entry; expected {EXPECTED}")),
        };
        found.push(Parameter { domain: domain.map_err(wrong)?, key });
    }
    Ok(())
}

fn array<'a>(table: &'a Table, kind: &str) -> Result<&'a [Value], String> {
    let values = table.get(kind).and_then(Value::as_array);
    values.map(Vec::as_slice).ok_or_else(|| format!("{kind} is not an array; expected {EXPECTED}"))
}

/// The two ends of a kind.
fn ends<'a>(kind: &str, values: &'a [Value]) -> Result<(&'a Value, &'a Value), String> {
    match values {
        [low, high] => Ok((low, high)),
        _ => Err(format!("has {} values; expected {{ {kind} = [LOW, HIGH] }}", values.len())),
    }
}

/// `{ int = [LOW, HIGH] }`, with `step` or `log`.
fn integers(table: &Table) -> Result<Domain, String> {
    let (low, high) = ends("int", array(table, "int")?)?;
    let (Some(low), Some(high)) = (low.as_integer(), high.as_integer()) else {
        return Err("expected two integers".to_owned());
    };
    if low >= high {
        return Err("expected the first value below the second".to_owned());
    }
    if let Some(other) = table.keys().find(|key| !["int", "step", "log"].contains(&key.as_str())) {
        return Err(format!("has more than one entry: {other}; beside int, expected step = N or log = true"));
    }
    let log = match table.get("log") {
        None => false,
        Some(Value::Boolean(log)) => *log,
        Some(_) => return Err("has more than one entry; beside int, log is true or false".to_owned()),
    };
    let step = table.get("step").map_or(Some(1), Value::as_integer);
    let step = step.filter(|step| *step >= 1 && low.checked_add(*step).is_some_and(|next| next <= high));
    let step = step.ok_or("step: expected an integer from 1 to the distance of the two values")?;
    match log {
        true if low < 1 => Err("expected values above 0, because their logarithm is sampled".to_owned()),
        true if step > 1 => Err("has step and log; give one of them".to_owned()),
        _ => Ok(Domain::Int { low, high, step, log }),
    }
}

/// The domain of a kind with these values.
fn domain(kind: &str, values: &[Value]) -> Result<Domain, String> {
    if kind == "choice" {
        let is_repeated = |(index, value): (usize, &Value)| values.iter().take(index).any(|other| other == value);
        return match values {
            [] | [_] => Err("has fewer than two options; expected { choice = [A, B, ...] }".to_owned()),
            _ if values.iter().enumerate().any(is_repeated) => Err("has an option twice".to_owned()),
            _ => Ok(Domain::Choice(values.to_vec())),
        };
    }
    let (low, high) = ends(kind, values)?;
    let number = |value: &Value| match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value).filter(|value| value.is_finite()),
        _ => None,
    };
    let (Some(low), Some(high)) = (number(low), number(high)) else {
        return Err("expected two finite numbers".to_owned());
    };
    match kind {
        _ if low >= high => Err("expected the first value below the second".to_owned()),
        "log" if low <= 0.0 => Err("expected values above 0, because their logarithm is sampled".to_owned()),
        "log" => Ok(Domain::Log { low, high }),
        _ if !(high - low).is_finite() => Err("expected a smaller range".to_owned()),
        _ => Ok(Domain::Uniform { low, high }),
    }
}
