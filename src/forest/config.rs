//! A forest's config: TOML text -> [`RawForestConfig`] -> [`ForestConfig`], as a network's.

use std::fmt;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::config::{check_common, defaults};
use crate::data::config::DataConfig;
use crate::data::images::PIXELS;
use crate::util::validate::require;

/// A checked config of a forest. Reads as [`RawForestConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct ForestConfig(RawForestConfig);

impl Deref for ForestConfig {
    type Target = RawForestConfig;

    fn deref(&self) -> &RawForestConfig {
        &self.0
    }
}

/// A forest's config as written: keys and types are right, values not yet looked at.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawForestConfig {
    /// Name of the run; the default run directory is `runs/<name>-<UTC time>`.
    pub name: String,
    /// Every random number of the forest follows from it.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// CPU threads; 0 takes one per core. The forest is the same whatever their number.
    #[serde(default)]
    pub threads: usize,
    /// Which rows to fit and to validate on.
    pub data: DataConfig,
    /// The forest.
    pub forest: ForestTable,
}

/// `[forest]`
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForestTable {
    /// Trees of the forest.
    pub trees: usize,
    /// Pixels drawn at every node.
    pub max_features: MaxFeatures,
    /// What finds the best split of a node.
    pub finder: Finder,
    /// Folds of the cross-validation; 0 leaves it out.
    pub folds: usize,
}

impl Default for ForestTable {
    fn default() -> Self {
        Self { trees: 100, max_features: MaxFeatures::Sqrt, finder: Finder::Histogram, folds: 5 }
    }
}

/// What finds the best split of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finder {
    /// Counts classes by pixel value, or sorts where a node is small: exact, and the same whatever the number of threads.
    Histogram,
    /// linfa-trees' decision tree of depth 1, fitted on the node's rows; near-ties may fall otherwise in another process.
    Linfa,
}

/// `forest.max_features`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxFeatures {
    /// The root of the number of pixels, rounded down.
    Sqrt,
    /// This many.
    Count(usize),
}

impl MaxFeatures {
    /// How many of `width` features.
    pub fn of(self, width: usize) -> usize {
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
    /// The config as TOML with every key, as `config.toml` and a forest's file hold it.
    ///
    /// # Errors
    /// Only the TOML writer's, which no checked config causes.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.0)?)
    }
}

impl RawForestConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value out of range: its key, the value, and what is allowed.
    pub fn check(self) -> Result<ForestConfig, String> {
        check_common(&self.name, self.seed, self.threads, &self.data)?;
        if let Some(path) = &self.data.soft_labels {
            let allowed = "none: a forest is grown on the labels alone";
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;
    use crate::config::{Config, from_text};

    const SMALL: &str = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n[forest]\n";

    #[test]
    fn a_resolved_config_reads_back_the_same() {
        let default: ForestConfig = from_text(SMALL, "f.toml").unwrap();
        assert_eq!(default.forest, ForestTable::default());
        assert_eq!((default.seed, default.forest.max_features.of(2304)), (42, 48));
        let sets =
            ["forest.trees=7", "forest.max_features=5", "forest.finder=linfa", "forest.folds=0"].map(String::from);
        let changed: ForestConfig = parse(SMALL, "f.toml", &sets).unwrap();
        assert_eq!((changed.forest.trees, changed.forest.max_features.of(2304)), (7, 5));
        assert_eq!((changed.forest.finder, changed.forest.folds), (Finder::Linfa, 0));
        let again: ForestConfig = from_text(&changed.to_toml().unwrap(), "again").unwrap();
        assert_eq!(again, changed);
    }

    #[test]
    fn errors_name_key_and_what_is_allowed() {
        for (set, parts) in [
            ("forest.trees=0", ["forest.trees = 0", "1 to 10000"]),
            ("forest.folds=1", ["forest.folds = 1", "2 to 100"]),
            ("forest.max_features=2305", ["forest.max_features = 2305", "1 to 2304"]),
            ("forest.max_features=log2", ["forest.max_features", "\"sqrt\" or a number"]),
            ("forest.finder=exact", ["forest.finder", "`histogram`"]),
            ("forest.depth=3", ["forest.depth", "expected one of"]),
            ("data.soft_labels=s.csv", ["data.soft_labels = s.csv", "a forest is grown on the labels alone"]),
            ("data.validation=0", ["data.validation = 0", "above 0"]),
        ] {
            let message = format!("{:#}", parse::<ForestConfig>(SMALL, "f.toml", &[set.to_owned()]).unwrap_err());
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn the_other_kind_of_config_is_told_where_it_belongs() {
        let message = format!("{:#}", from_text::<Config>(SMALL, "f.toml").unwrap_err());
        assert!(message.contains("f.toml:4: forest: ") && message.contains("grimace forest"), "{message}");
        let net = SMALL.replace("[forest]", "[model]\nkind = \"cnn\"");
        let message = format!("{:#}", from_text::<ForestConfig>(&net, "n.toml").unwrap_err());
        assert!(message.contains("n.toml:4: model: ") && message.contains("grimace train"), "{message}");
    }
}
