//! `train.class_weights`: the weight of each class in the loss.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::util::validate::{InvalidValue, require};

/// The weight of each class for `counts` training images per class; `None` for equal weights.
///
/// "balanced" is N / (classes * count), as scikit-learn's `compute_class_weight`, and 0 for a class
/// without images.
pub fn class_weights(config: &ClassWeights, counts: &[u64]) -> Option<Vec<f32>> {
    match config {
        ClassWeights::None => None,
        ClassWeights::Explicit(weights) => Some(weights.iter().map(|weight| *weight as f32).collect()),
        ClassWeights::Balanced => {
            let mean = counts.iter().sum::<u64>() as f64 / counts.len().max(1) as f64;
            let weight = |count: &u64| if *count == 0 { 0.0 } else { (mean / *count as f64) as f32 };
            Some(counts.iter().map(weight).collect())
        }
    }
}

/// Far above any practical weight, and far below what overflows float32 in a sum.
const MAX_WEIGHT: f64 = 1e6;

/// `train.class_weights`: `weight` of `torch.nn.CrossEntropyLoss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ClassWeights {
    /// Equal weights.
    #[default]
    None,
    /// Inversely proportional to the training images per class; scikit-learn's
    /// `class_weight="balanced"`.
    Balanced,
    /// Explicit weights in the order of `data.classes`: 0 to 1e6, not all 0.
    Explicit(Vec<f64>),
}

impl ClassWeights {
    /// Checks the number and range of explicit weights.
    pub(crate) fn check(&self, classes: usize) -> Result<(), InvalidValue> {
        let Self::Explicit(weights) = self else { return Ok(()) };
        let in_range = weights.iter().all(|weight| (0.0..=MAX_WEIGHT).contains(weight));
        let some = weights.iter().any(|weight| *weight > 0.0);
        let allowed =
            format!("\"none\", \"balanced\" or {classes} numbers, one for each class: 0 to 1e6, not all of them 0");
        require(weights.len() == classes && in_range && some, "train.class_weights", format!("{weights:?}"), &allowed)
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Balanced => serializer.serialize_str("balanced"),
            Self::Explicit(weights) => weights.serialize(serializer),
        }
    }
}

impl schemars::JsonSchema for ClassWeights {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                {"const": "none", "description": "equal weights"},
                {"const": "balanced", "description": "inversely proportional to the training images per class"},
                {
                    "type": "array",
                    "items": {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT},
                    "description": "a weight for each class, not all of them 0",
                },
            ]
        })
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ClassWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"balanced\" or a list of one number for each class")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<ClassWeights, E> {
                match value {
                    "none" => Ok(ClassWeights::None),
                    "balanced" => Ok(ClassWeights::Balanced),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ClassWeights, A::Error> {
                let mut weights = Vec::new();
                while let Some(weight) = list.next_element()? {
                    weights.push(weight);
                }
                Ok(ClassWeights::Explicit(weights))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::load::parse;
    use crate::data::sampler::Sampling;

    /// scikit-learn's example: `compute_class_weight("balanced", classes=[0, 1],
    /// y=[1, 1, 1, 1, 0, 0])` is [1.5, 0.75].
    #[test]
    fn balanced_weights_agree_with_scikit_learn() {
        assert_eq!(class_weights(&ClassWeights::Balanced, &[2, 4]), Some(vec![1.5, 0.75]));
        assert_eq!(class_weights(&ClassWeights::Balanced, &[3, 0, 3]), Some(vec![2.0 / 3.0, 0.0, 2.0 / 3.0]));
        assert_eq!(class_weights(&ClassWeights::Balanced, &[0, 0]), Some(vec![0.0, 0.0]));
        assert_eq!(class_weights(&ClassWeights::Explicit(vec![0.5, 2.0]), &[2, 4]), Some(vec![0.5, 2.0]));
        assert_eq!(class_weights(&ClassWeights::None, &[2, 4]), None);
    }

    const SMALL: &str = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n[model]\nkind = \"cnn\"\n[train]\n";

    fn read(line: &str) -> Result<Config, String> {
        parse(&format!("{SMALL}{line}\n"), "c.toml", &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_lists_round_trip() {
        let list = ClassWeights::Explicit(vec![1.0, 2.5, 0.0, 1.0, 1.0, 1.0, 1.0]);
        for (line, expected) in [
            ("", ClassWeights::None),
            ("class_weights = \"none\"", ClassWeights::None),
            ("class_weights = \"balanced\"", ClassWeights::Balanced),
            ("class_weights = [1, 2.5, 0, 1, 1, 1, 1]", list),
        ] {
            let config = read(line).unwrap();
            assert_eq!(config.train.class_weights, expected);
            let reread: Config = parse(&config.to_toml().unwrap(), "reread", &[]).unwrap();
            assert_eq!(reread, config);
        }
        assert_eq!(read("sampling = \"balanced\"").unwrap().train.sampling, Sampling::Balanced);
        assert_eq!(read("").unwrap().train.sampling, Sampling::Shuffle);
    }

    #[test]
    fn invalid_values_are_rejected() {
        let range = "7 numbers, one for each class: 0 to 1e6, not all of them 0";
        for (value, expected) in [
            ("[1, 1, 1]", range),
            ("[1, 1, 1, 1, 1, 1, 1, 1]", range),
            ("[]", range),
            ("[0, 0, 0, 0, 0, 0, 0]", range),
            ("[1, 1, 1, 1, 1, 1, -1]", range),
            ("[1, 1, 1, 1, 1, 1, nan]", range),
            ("[1, 1, 1, 1, 1, 1, inf]", range),
            ("[1, 1, 1, 1, 1, 1, 1e7]", range),
            ("[1, 1, 1, 1, 1, 1, \"x\"]", "train.class_weights[6] = \"x\" is not allowed: expected a number"),
            ("\"equal\"", "\"none\", \"balanced\" or a list of one number for each class"),
            ("1", " = 1 is not allowed: expected \"none\", \"balanced\" or a list"),
        ] {
            let message = read(&format!("class_weights = {value}")).unwrap_err();
            assert!(message.contains("c.toml:7: train.class_weights") && message.contains(expected), "{message}");
        }
        let message = read("sampling = \"stratified\"").unwrap_err();
        assert!(message.contains("c.toml:7: train.sampling = \"stratified\" is not allowed"), "{message}");
    }
}
