//! Config of a forest: TOML text -> [`RawForestConfig`] -> [`ForestConfig`].

use std::fmt;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use toml::Table;

use crate::config::load::ParseTable;
use crate::config::{ConfigError, ConfigFile, check_common, defaults};
use crate::data::config::{DataConfig, LabelSource};
use crate::data::images::PIXELS;
use crate::util::validate::{InvalidValue, require};

/// A validated forest config; dereferences to [`RawForestConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct ForestConfig(RawForestConfig);

impl Deref for ForestConfig {
    type Target = RawForestConfig;

    fn deref(&self) -> &RawForestConfig {
        &self.0
    }
}

/// A forest config with known keys and right types, before its values are validated.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawForestConfig {
    /// Name of the run; the default run directory is `runs/<name>-<UTC time>`.
    pub name: String,
    /// Seed of all random numbers.
    #[serde(default = "defaults::seed")]
    #[schemars(range(max = i64::MAX))]
    pub seed: u64,
    /// CPU threads; 0 for one per core. The forest does not depend on it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1024))]
    pub threads: usize,
    /// Training and validation data.
    pub data: DataConfig,
    /// Hyperparameters of the forest.
    pub forest: ForestTable,
}

/// `[forest]`
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForestTable {
    /// Number of trees (scikit-learn's `n_estimators`).
    #[schemars(range(min = 1, max = 10000))]
    pub trees: usize,
    /// Pixels sampled at each node.
    pub max_features: MaxFeatures,
    /// Implementation of the split search.
    pub finder: Finder,
    /// Folds of the cross-validation; 0 skips it.
    #[schemars(range(max = 100))]
    pub folds: usize,
}

impl Default for ForestTable {
    fn default() -> Self {
        Self { trees: 100, max_features: MaxFeatures::Sqrt, finder: Finder::Histogram, folds: 5 }
    }
}

/// Implementation of the search for the best split of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finder {
    /// Class counts by pixel value, or sorting in small nodes: exact, and independent of the number
    /// of threads.
    Histogram,
    /// A depth-1 decision tree of linfa-trees, fitted on the node's rows; near-ties may differ
    /// between processes.
    Linfa,
}

impl Finder {
    /// Name in configs and `summary.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Histogram => "histogram",
            Self::Linfa => "linfa",
        }
    }
}

/// `forest.max_features`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxFeatures {
    /// Square root of the number of pixels, rounded down.
    Sqrt,
    /// This number.
    Count(usize),
}

impl MaxFeatures {
    /// Number of features to sample out of `width`.
    pub fn resolve(self, width: usize) -> usize {
        match self {
            Self::Sqrt => width.isqrt().max(1),
            Self::Count(count) => count,
        }
    }
}

impl Serialize for MaxFeatures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sqrt => serializer.serialize_str("sqrt"),
            Self::Count(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl schemars::JsonSchema for MaxFeatures {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaxFeatures".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                {"const": "sqrt", "description": "the square root of the number of pixels, rounded down"},
                {"type": "integer", "minimum": 1, "maximum": PIXELS, "description": "this number"},
            ]
        })
    }
}

impl<'de> Deserialize<'de> for MaxFeatures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = MaxFeatures;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"sqrt\" or a number of pixels, 1 to 2304")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MaxFeatures, E> {
                let count =
                    usize::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))?;
                Ok(MaxFeatures::Count(count))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<MaxFeatures, E> {
                if value == "sqrt" {
                    Ok(MaxFeatures::Sqrt)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(value), &self))
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl ForestConfig {
    /// The config as TOML with every key, for `config.toml` and the forest's file.
    ///
    /// # Errors
    /// Those of the TOML writer.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.0)?)
    }
}

impl RawForestConfig {
    /// Validates all values.
    ///
    /// # Errors
    /// The first value out of range: its key, the value, and what is allowed.
    pub fn check(mut self) -> Result<ForestConfig, InvalidValue> {
        self.data.resolve();
        check_common(&self.name, self.seed, self.threads, &self.data)?;
        if let (Some(path), LabelSource::Emotion) = (&self.data.soft_labels, self.data.label_source) {
            let allowed = "none, or data.label_source = \"soft_labels\": a forest is fitted on hard labels";
            require(false, "data.soft_labels", path.display(), allowed)?;
        }
        let forest = &self.forest;
        require((1..=10_000).contains(&forest.trees), "forest.trees", forest.trees, "1 to 10000")?;
        if let MaxFeatures::Count(count) = forest.max_features {
            require((1..=PIXELS).contains(&count), "forest.max_features", count, "\"sqrt\" or 1 to 2304 pixels")?;
        }
        let folds = forest.folds;
        require(
            folds == 0 || (2..=100).contains(&folds),
            "forest.folds",
            folds,
            "0 (no cross-validation) or 2 to 100",
        )?;
        Ok(ForestConfig(self))
    }
}

impl ConfigFile for ForestConfig {
    const TABLES: &[&str] = &["data", "forest"];
    const TAGGED_TABLES: &[(&[&str], ParseTable)] = &[];
    const FOREIGN_TABLE: (&str, &str) = ("model", "this is a network's config; train it with grimace train");

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        Ok(serde_path_to_error::deserialize::<_, RawForestConfig>(table)?.check()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;
    use crate::config::{Config, from_text};

    const SMALL: &str = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n[forest]\n";

    #[test]
    fn a_resolved_config_round_trips() {
        let default: ForestConfig = from_text(SMALL, "f.toml").unwrap();
        assert_eq!(default.forest, ForestTable::default());
        assert_eq!((default.seed, default.forest.max_features.resolve(2304)), (42, 48));
        let sets =
            ["forest.trees=7", "forest.max_features=5", "forest.finder=linfa", "forest.folds=0"].map(String::from);
        let changed: ForestConfig = parse(SMALL, "f.toml", &sets).unwrap();
        assert_eq!((changed.forest.trees, changed.forest.max_features.resolve(2304)), (7, 5));
        assert_eq!((changed.forest.finder, changed.forest.folds), (Finder::Linfa, 0));
        let again: ForestConfig = from_text(&changed.to_toml().unwrap(), "again").unwrap();
        assert_eq!(again, changed);
    }

    #[test]
    fn errors_name_the_key_and_allowed_values() {
        for (set, parts) in [
            ("forest.trees=0", ["forest.trees = 0", "1 to 10000"]),
            ("forest.folds=1", ["forest.folds = 1", "2 to 100"]),
            ("forest.max_features=2305", ["forest.max_features = 2305", "1 to 2304"]),
            ("forest.max_features=log2", ["forest.max_features", "\"sqrt\" or a number"]),
            ("forest.finder=exact", ["forest.finder", "\"histogram\""]),
            ("forest.depth=3", ["forest.depth", "expected one of"]),
            ("data.soft_labels=s.csv", ["data.soft_labels = s.csv", "a forest is fitted on hard labels"]),
            ("data.validation=0", ["data.validation = 0", "above 0"]),
        ] {
            let message = format!("{:#}", parse::<ForestConfig>(SMALL, "f.toml", &[set.to_owned()]).unwrap_err());
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn errors_name_the_command_for_the_other_kind_of_config() {
        let message = format!("{:#}", from_text::<Config>(SMALL, "f.toml").unwrap_err());
        assert!(message.contains("f.toml:4: forest: ") && message.contains("grimace forest"), "{message}");
        let net = SMALL.replace("[forest]", "[model]\nkind = \"cnn\"");
        let message = format!("{:#}", from_text::<ForestConfig>(&net, "n.toml").unwrap_err());
        assert!(message.contains("n.toml:4: model: ") && message.contains("grimace train"), "{message}");
    }
}
