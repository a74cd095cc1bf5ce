//! `model.stem_pool` of a ResNet.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::util::flag_or_name::FlagOrName;

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

const VALUES: FlagOrName<StemPool> =
    FlagOrName { off: StemPool::Off, on: StemPool::BeforeNorm, named: ("3x3", StemPool::AfterRelu) };

impl Serialize for StemPool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        VALUES.serialize(*self, serializer)
    }
}

impl<'de> Deserialize<'de> for StemPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        VALUES.deserialize(deserializer)
    }
}

impl schemars::JsonSchema for StemPool {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StemPool".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        VALUES.json_schema()
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
