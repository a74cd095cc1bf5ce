//! Config values that are more than one TOML type: parsed once, here.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// `device`: where to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, else Apple's GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number; an error where it cannot be had.
    Cuda(usize),
    /// Apple's GPU; an error where it cannot be had.
    Mps,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Mps => f.write_str("mps"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "mps" => Ok(Self::Mps),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                text.strip_prefix("cuda:").and_then(|index| index.parse().ok()).map(Self::Cuda).ok_or_else(|| {
                    format!("unknown device {text:?}: expected \"auto\", \"cpu\", \"cuda:N\" or \"mps\"")
                })
            }
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `data.validation`: where the validation rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    /// This fraction of the training rows.
    Fraction(f64),
    /// A CSV of its own.
    Path(PathBuf),
    /// The rows of the training CSV that have this Usage.
    Usage(String),
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
        }
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Validation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fraction above 0 and below 1, a CSV's path, or a Usage such as \"PublicTest\"")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Validation, E> {
                Ok(Validation::Fraction(value as f64))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Validation, E> {
                // Kaggle's usages are bare words; whatever looks like a path is one.
                if value.contains(['/', '.', '\\']) {
                    Ok(Validation::Path(value.into()))
                } else if value.is_empty() {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                } else {
                    Ok(Validation::Usage(value.into()))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
