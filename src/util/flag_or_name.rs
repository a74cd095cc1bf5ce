//! A config value that is `true`, `false` or a name.

use std::fmt::{Formatter, Result as FmtResult};

use serde::de::{self, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The values of a key that is `true`, `false` or one name.
#[derive(Debug, Clone, Copy)]
pub struct FlagOrName<T> {
    /// What `false` stands for.
    pub off: T,
    /// What `true` stands for.
    pub on: T,
    /// The name, and what it stands for.
    pub named: (&'static str, T),
}

impl<T: Copy + PartialEq> FlagOrName<T> {
    /// Reads a value.
    ///
    /// # Errors
    /// For any other value, with those that are allowed.
    pub fn deserialize<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// Writes `value` as it is read.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(self, value: T, serializer: S) -> Result<S::Ok, S::Error> {
        if value == self.named.1 {
            return self.named.0.serialize(serializer);
        }
        (value == self.on).serialize(serializer)
    }

    /// The JSON schema.
    pub fn json_schema(self) -> schemars::Schema {
        schemars::json_schema!({"enum": [true, false, self.named.0]})
    }
}

impl<T: Copy> Visitor<'_> for FlagOrName<T> {
    type Value = T;

    fn expecting(&self, f: &mut Formatter<'_>) -> FmtResult {
        write!(f, "true, false or {:?}", self.named.0)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        Ok(if value { self.on } else { self.off })
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        let (name, named) = self.named;
        if value == name { Ok(named) } else { Err(E::invalid_value(de::Unexpected::Str(value), &self)) }
    }
}
