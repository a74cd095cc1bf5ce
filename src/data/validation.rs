//! `data.validation`: where the validation images come from.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::util::files::STANDARD_STREAM;
use crate::util::validate::{InvalidValue, require};

/// Most folds of a cross-validation.
pub const MAX_FOLDS: u32 = 100;

/// A fold of a cross-validation: the part that is validated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Its number, 1 to `folds`.
    pub fold: u32,
    /// Number of folds, 2 to [`MAX_FOLDS`].
    pub folds: u32,
}

impl fmt::Display for Fold {
    /// Formats as `fold 2 of 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fold {} of {}", self.fold, self.folds)
    }
}

/// `data.validation`: the source of the validation rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// A fraction of the training rows.
    Fraction(f64),
    /// A separate CSV.
    Path(PathBuf),
    /// The rows of the training CSV with this Usage.
    Usage(String),
    /// A part of the training rows, the others being trained on.
    Fold(Fold),
}

impl Validation {
    /// Whether the rows are sampled, so that they depend on a seed.
    pub fn is_sampled(&self) -> bool {
        matches!(self, Self::Fraction(_) | Self::Fold(_))
    }

    /// Checks the range of a fraction and of a fold.
    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        match *self {
            Self::Fraction(fraction) => require(
                fraction > 0.0 && fraction < 1.0,
                "data.validation",
                fraction,
                "a fraction above 0 and below 1, the path of a CSV file, or a Usage",
            ),
            Self::Fold(Fold { fold, folds }) => {
                require((2..=MAX_FOLDS).contains(&folds), "data.validation.folds", folds, "2 to 100 folds")?;
                require((1..=folds).contains(&fold), "data.validation.fold", fold, &format!("a fold from 1 to {folds}"))
            }
            Self::Path(_) | Self::Usage(_) => Ok(()),
        }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self::Fraction(0.2)
    }
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fraction(fraction) => serializer.serialize_f64(*fraction),
            Self::Path(path) => path.serialize(serializer),
            Self::Usage(usage) => usage.serialize(serializer),
            Self::Fold(fold) => fold.serialize(serializer),
        }
    }
}

impl schemars::JsonSchema for Validation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Validation".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "description": "a fraction of the training rows"},
                {"type": "string", "description": "the path of a CSV, or a Usage of the training CSV such as \"PublicTest\""},
                {
                    "type": "object",
                    "description": "a fold of a cross-validation, as train --folds sets it",
                    "properties": {
                        "fold": {"type": "integer", "minimum": 1, "maximum": MAX_FOLDS},
                        "folds": {"type": "integer", "minimum": 2, "maximum": MAX_FOLDS},
                    },
                    "required": ["fold", "folds"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Validation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a fraction above 0 and below 1, a CSV's path, a Usage such as \"PublicTest\", or a fold such as { fold = 1, \
                     folds = 5 }",
                )
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Validation, A::Error> {
                Fold::deserialize(de::value::MapAccessDeserializer::new(map)).map(Validation::Fold)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Validation, E> {
                // An integer may be a Usage, such as the number of a fold.
                if let Ok(fraction) = value.trim().parse::<f64>()
                    && value.contains('.')
                {
                    return Ok(Validation::Fraction(fraction));
                }
                if let Some(fraction) = misspelled_fraction(value) {
                    return Err(E::custom(format!("{value:?} is not a fraction; did you mean {fraction}?")));
                }
                // Kaggle's usages are plain words, so anything that looks like a path is a path.
                if value.contains(['/', '.', '\\']) {
                    Ok(Validation::Path(value.into()))
                } else if value.trim().is_empty() || value == STANDARD_STREAM {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                } else {
                    Ok(Validation::Usage(value.trim().into()))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The fraction that `0,2` or `20%` probably means.
fn misspelled_fraction(text: &str) -> Option<f64> {
    let text = text.trim();
    let percent = text.strip_suffix('%').and_then(|number| number.trim().replace(',', ".").parse::<f64>().ok());
    let decimal_comma = || text.split_once(',').and_then(|(whole, part)| format!("{whole}.{part}").parse().ok());
    percent.map(|percent| percent / 100.0).or_else(decimal_comma).filter(|fraction: &f64| fraction.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_is_a_fraction_a_path_or_a_usage() {
        let parse = |text: &str| {
            #[derive(serde::Deserialize, schemars::JsonSchema)]
            struct Only {
                validation: Validation,
            }
            toml::from_str::<Only>(&format!("validation = {text}")).map(|only| only.validation)
        };
        for text in ["0.2", "\"0.2\"", "\" .2 \""] {
            assert_eq!(parse(text).unwrap(), Validation::Fraction(0.2), "{text}");
        }
        assert_eq!(parse("\"a.csv\"").unwrap(), Validation::Path("a.csv".into()));
        assert_eq!(parse("\"PublicTest \"").unwrap(), Validation::Usage("PublicTest".into()));
        assert_eq!(parse("\"3\"").unwrap(), Validation::Usage("3".into()), "the number of a fold");
        for text in ["\"0,2\"", "\"20%\"", "\"20 %\""] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains("is not a fraction; did you mean 0.2?"), "{message}");
        }
        let fold = parse("{ fold = 2, folds = 5 }").unwrap();
        assert_eq!(fold, Validation::Fold(Fold { fold: 2, folds: 5 }));
        assert_eq!(toml::Value::try_from(&fold).unwrap().to_string(), "{ fold = 2, folds = 5 }");
        for text in ["{ fold = 2 }", "{ fold = 2, folds = 5, of = 5 }", "{ fold = -1, folds = 5 }"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("\"\"").is_err() && parse("\" \"").is_err() && parse("\"-\"").is_err());
    }
}
