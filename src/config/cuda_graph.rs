//! `train.cuda_graph`

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// `train.cuda_graph`: `"auto"`, `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CudaGraph {
    /// What is known to be faster: no graph until it has been measured on GPUs.
    #[default]
    Auto,
    /// A graph.
    On,
    /// No graph.
    Off,
}

impl CudaGraph {
    /// Whether steps are recorded.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl Serialize for CudaGraph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::On => serializer.serialize_bool(true),
            Self::Off => serializer.serialize_bool(false),
        }
    }
}

struct CudaGraphVisitor;

impl Visitor<'_> for CudaGraphVisitor {
    type Value = CudaGraph;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"auto\", true or false")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<CudaGraph, E> {
        Ok(if value { CudaGraph::On } else { CudaGraph::Off })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<CudaGraph, E> {
        match value {
            "auto" => Ok(CudaGraph::Auto),
            _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for CudaGraph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CudaGraphVisitor)
    }
}

impl schemars::JsonSchema for CudaGraph {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CudaGraph".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": ["auto", true, false]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_read() {
        #[derive(Serialize, serde::Deserialize)]
        struct Table {
            key: CudaGraph,
        }
        for (text, value) in [("\"auto\"", CudaGraph::Auto), ("true", CudaGraph::On), ("false", CudaGraph::Off)] {
            let table: Table = toml::from_str(&format!("key = {text}")).unwrap();
            assert_eq!((table.key, toml::to_string(&table).unwrap()), (value, format!("key = {text}\n")));
        }
        let error = toml::from_str::<Table>("key = \"on\"").err().unwrap().to_string();
        assert!(error.contains("\"auto\", true or false"), "{error}");
    }
}
