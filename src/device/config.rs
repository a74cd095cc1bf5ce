//! `device` and `precision`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// `device`: `auto`, `cpu`, `cuda:N` or `mps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, an Apple GPU, or else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by index; an error when it is not available.
    Cuda(usize),
    /// An Apple GPU; an error when it is not available.
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

impl schemars::JsonSchema for DeviceChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^(auto|cpu|mps|cuda|cuda:[0-9]+)$"})
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `precision`: dtype of the forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bfloat16 if the device computes it faster than float32: NVIDIA GPUs of compute capability 8.0 or
    /// higher, CPUs of AMD with AVX512-BF16, CPUs of Intel with AMX; else float32.
    #[default]
    Auto,
    /// float32.
    F32,
    /// float32, with convolutions and matrix products of training in TF32 (10 bits of mantissa) on
    /// NVIDIA GPUs of compute capability 8.0 or higher; an error elsewhere.
    Tf32,
    /// bfloat16 with float32 weights.
    Bf16,
}
