//! `model.stem_pool` of a ResNet.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// `model.stem_pool`: `true`, `false` or `"3x3"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StemPool {
    /// No pooling.
    Off,
    /// 2x2 max pooling between the convolution and its norm.
    BeforeNorm,
    /// 3x3 max pooling with stride 2 and padding 1 after the ReLU, as in torchvision.
    AfterRelu,
}

/// The value of [`StemPool::AfterRelu`].
const OVERLAPPING: &str = "3x3";

impl Serialize for StemPool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::BeforeNorm => serializer.serialize_bool(true),
            Self::AfterRelu => serializer.serialize_str(OVERLAPPING),
        }
    }
}

struct StemPoolVisitor;

impl Visitor<'_> for StemPoolVisitor {
    type Value = StemPool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("true, false or \"3x3\"")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<StemPool, E> {
        Ok(if value { StemPool::BeforeNorm } else { StemPool::Off })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<StemPool, E> {
        if value == OVERLAPPING {
            return Ok(StemPool::AfterRelu);
        }
        Err(E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

impl<'de> Deserialize<'de> for StemPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StemPoolVisitor)
    }
}

impl schemars::JsonSchema for StemPool {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StemPool".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": [true, false, OVERLAPPING]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_read() {
        #[derive(Debug, Serialize, serde::Deserialize)]
        struct Table {
            key: StemPool,
        }
        for (text, value) in
            [("true", StemPool::BeforeNorm), ("false", StemPool::Off), ("\"3x3\"", StemPool::AfterRelu)]
        {
            let table: Table = toml::from_str(&format!("key = {text}")).unwrap();
            assert_eq!((table.key, toml::to_string(&table).unwrap()), (value, format!("key = {text}\n")));
        }
        let error = toml::from_str::<Table>("key = \"2x2\"").unwrap_err().to_string();
        assert!(error.contains("true, false or \"3x3\""), "{error}");
    }
}
