//! `SPACE.toml`: which keys a search varies, and over which values.

use std::path::Path;

use anyhow::Result;
use toml::Value;

use super::domain::{Domain, toml_text};
use super::space_table::{EXPECTED, collect};
use crate::config::{self, Config, MAX_CONFIG, find_line};
use crate::train::initial_weights::WeightsFile;
use crate::util::error::input;
use crate::util::files::read_small_text;

/// Keys that a search may not vary, or tables of them, and why.
const FIXED: [(&str, &str); 8] = [
    ("name", "it changes no result"),
    ("seed", "a lucky seed is no better config; --confirm trains the best one with other seeds"),
    ("device", "it changes no result; set it with --set"),
    ("threads", "it changes no result; set it with --set"),
    ("data", "scores are comparable only on the same images; set it with --set"),
    ("predict", "training does not read it"),
    ("train.epochs", "it is that of --max-epochs"),
    ("train.early_stop.monitor", "it is that of --metric"),
];

/// A key and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The dotted key.
    pub key: String,
    /// Its values.
    pub domain: Domain,
}

/// The keys that a search varies, sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// At least one.
    pub parameters: Vec<Parameter>,
}

impl Space {
    /// Reads a space and checks it against the config that it varies.
    ///
    /// # Errors
    /// An input error that names file, line and key: a key that the config does not have or a search
    /// may not vary, values of another type or out of the key's range.
    pub fn load(path: &Path, base: &Config) -> Result<Self> {
        let text = read_small_text(path, MAX_CONFIG, "the space of a search in TOML")?;
        Self::parse(&text, &path.display().to_string(), base)
    }

    fn parse(text: &str, source: &str, base: &Config) -> Result<Self> {
        let table = config::read_table(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            input(format!("{source}:{line}: not valid TOML: {}", error.message()))
        })?;
        let named = |key: &str, problem: &str| {
            let line = find_line(text, key).map_or(String::new(), |line| format!(":{line}"));
            input(format!("{source}{line}: {problem}"))
        };
        let mut parameters = Vec::new();
        collect(&table, "", &mut parameters).map_err(|(key, problem)| named(&key, &problem))?;
        parameters.sort_by(|a, b| a.key.cmp(&b.key));
        if parameters.is_empty() {
            return Err(input(format!("{source}: varies no key; expected KEY = {EXPECTED}")));
        }
        for pair in parameters.windows(2) {
            if let [one, other] = pair
                && is_within(&other.key, &one.key)
            {
                let problem = format!("{}: is in {}, which is varied too; vary one of them", other.key, one.key);
                return Err(named(&other.key, &problem));
            }
        }
        for parameter in &parameters {
            check(parameter, base).map_err(|problem| named(&parameter.key, &problem))?;
        }
        Ok(Self { parameters })
    }

    /// The parameters as text, for the journal.
    pub fn lines(&self) -> Vec<String> {
        self.parameters.iter().map(|parameter| format!("{} = {}", parameter.key, parameter.domain)).collect()
    }

    /// Number of combinations, if all values are options or integers.
    pub fn size(&self) -> Option<f64> {
        self.parameters.iter().map(|parameter| parameter.domain.count()).product()
    }

    /// The combination `index`, from 0 to below [`size`](Self::size).
    pub fn combination(&self, mut index: u64) -> Option<Vec<Value>> {
        let value = |parameter: &Parameter| {
            let count = parameter.domain.count()? as u64;
            let own = index % count.max(1);
            index /= count.max(1);
            parameter.domain.nth(own)
        };
        self.parameters.iter().map(value).collect()
    }

    /// The values that `config` itself has.
    ///
    /// # Errors
    /// The key whose value is not among those of the space.
    pub fn values_of(&self, config: &Config) -> Result<Vec<Value>, String> {
        let table = config.to_toml().ok().and_then(|text| config::read_table(&text).ok()).unwrap_or_default();
        let value = |parameter: &Parameter| {
            let Parameter { key, domain } = parameter;
            let is_own = |value: &Value| {
                let same = config::with_values(config, &[format!("{key}={value}")]);
                domain.position(value).is_some() && same.is_ok_and(|same| same == *config)
            };
            let number = config::value_at(&table, key).and_then(|value| domain.number(value));
            let own = domain.choices().iter().cloned().chain(number).find(is_own);
            own.ok_or_else(|| key.clone())
        };
        self.parameters.iter().map(value).collect()
    }

    /// `key=value` for each parameter, the values in its order.
    pub fn assignments(&self, values: &[Value]) -> Vec<String> {
        let pairs = self.parameters.iter().zip(values);
        pairs.map(|(parameter, value)| format!("{}={}", parameter.key, toml_text(value))).collect()
    }
}

/// Whether `key` is `table` or in it.
fn is_within(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks that the config takes the values of a parameter: of a range of numbers, the ends.
fn check(parameter: &Parameter, base: &Config) -> Result<(), String> {
    let key = &parameter.key;
    if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| is_within(key, fixed) || is_within(fixed, key)) {
        return Err(format!("{key}: a search does not vary this key: {why}"));
    }
    for value in parameter.domain.checked_values() {
        let text = format!("{key}={}", toml_text(&value));
        let found = config::with_values(base, std::slice::from_ref(&text));
        // Weights that are missing would end the study in the middle.
        let found = found.and_then(|config| match &config.train.init {
            Some(path) if key == "train.init" => WeightsFile::open(path).map(drop),
            _ => Ok(()),
        });
        if let Err(error) = found {
            let problem = format!("{error:#}");
            let named = if problem.starts_with(key.as_str()) { String::new() } else { format!("{key}: ") };
            return Err(format!("{named}{problem}{}", advice(key, &parameter.domain, &value, &problem)));
        }
    }
    Ok(())
}

/// What to do about a `kind` that does not fit the other keys of its table, or integers of which some
/// are not allowed.
fn advice(key: &str, domain: &Domain, value: &Value, problem: &str) -> String {
    match (key.strip_suffix(".kind"), domain) {
        (Some(table), Domain::Choice(_)) => {
            format!("; choose among whole tables: {table} = {{ choice = [{{ kind = ... }}, ...] }}")
        }
        (_, Domain::Uniform { .. } | Domain::Log { .. }) if problem.contains("expected an integer") => {
            "; give { int = [LOW, HIGH] }".to_owned()
        }
        (_, Domain::Int { low, step: 1, .. }) if value.as_integer() > Some(*low) => {
            "; leave values out with step = N, or list them with choice".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn base() -> Config {
        let text = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n[model]\nkind = \"cnn\"\n[train]\nepochs = 9\n";
        config::from_text(text, "base.toml").unwrap()
    }

    fn parse(text: &str) -> Result<Space> {
        Space::parse(text, "s.toml", &base())
    }

    #[test]
    fn dotted_quoted_and_nested_keys_are_equal() {
        let space = parse(
            "\"train.optimizer.lr\" = { log = [1e-4, 1e-1] }\ntrain.batch = { int = [16, 128], step = 16 }\n[augment]\n\
             rotate = { uniform = [0, 30] }\n[train.early_stop]\npatience = { int = [5, 50], log = true }\n[model]\nfilters = { choice = [[16, 32], [32, 64]] }\n",
        )
        .unwrap();
        assert_eq!(
            space.lines(),
            [
                "augment.rotate = { uniform = [0.0, 30.0] }",
                "model.filters = { choice = [[16, 32], [32, 64]] }",
                "train.batch = { int = [16, 128], step = 16 }",
                "train.early_stop.patience = { int = [5, 50], log = true }",
                "train.optimizer.lr = { log = [0.0001, 0.1] }",
            ]
        );
        let values: Vec<Value> = space.parameters.iter().map(|parameter| parameter.domain.value(0.0)).collect();
        let found = config::with_values(&base(), &space.assignments(&values)).unwrap();
        assert_eq!((found.train.batch, found.train.optimizer.lr()), (16, 1e-4));
    }

    #[test]
    fn a_choice_may_be_a_table() {
        let text = "train.optimizer = { choice = [{ kind = \"sgd\", lr = 0.1 }, { kind = \"adam\", lr = 1e-3 }] }\n";
        let space = parse(text).unwrap();
        let first = space.parameters[0].domain.value(0.0);
        let found = config::with_values(&base(), &space.assignments(&[first])).unwrap();
        assert_eq!(found.train.optimizer.lr(), 0.1);
    }

    #[test]
    fn combinations_are_all_different() {
        let space = parse(
            "train.batch = { int = [16, 64], step = 16 }\naugment.flip = { choice = [true, false] }\n\
                           train.early_stop.patience = { int = [1, 3], log = true }\n",
        )
        .unwrap();
        assert_eq!(space.size(), Some(24.0));
        let all: HashSet<String> =
            (0..24).map(|index| space.assignments(&space.combination(index).unwrap()).join(" ")).collect();
        assert_eq!(all.len(), 24);
        assert!(all.contains("augment.flip=false train.batch=64 train.early_stop.patience=3"), "{all:?}");
        assert_eq!(parse("train.ema = { uniform = [0, 0.5] }").unwrap().size(), None);
    }

    #[test]
    fn the_values_of_the_config_itself() {
        let space = parse(
            "train.batch = { int = [16, 128], step = 16 }\naugment.flip = { choice = [true, false] }\n\
             train.optimizer.lr = { log = [1e-3, 1e-1] }\nmodel.dropout = { uniform = [0, 0.9] }\n\
             model.filters = { choice = [[16, 32], [32, 64, 128]] }\n",
        )
        .unwrap();
        let values = space.values_of(&base()).unwrap();
        assert_eq!(config::with_values(&base(), &space.assignments(&values)).unwrap(), base());
        let outside = |text: &str| parse(text).unwrap().values_of(&base()).unwrap_err();
        assert_eq!(outside("train.batch = { int = [65, 128] }"), "train.batch");
        assert_eq!(outside("train.batch = { int = [16, 128], step = 7 }"), "train.batch");
        assert_eq!(outside("train.optimizer.lr = { log = [2e-3, 1e-1] }"), "train.optimizer.lr");
        let optimizers = "{ choice = [{ kind = \"sgd\", lr = 0.1 }, { kind = \"adam\", lr = 1e-3 }] }";
        let space = parse(&format!("train.optimizer = {optimizers}")).unwrap();
        assert_eq!(space.values_of(&base()).unwrap(), [space.parameters[0].domain.value(0.9)]);
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (text, parts) in [
            ("a = ", &["s.toml:1: not valid TOML"][..]),
            ("", &["s.toml: varies no key; expected KEY = one of { log"]),
            ("\ntrain.bacth = { int = [1, 2] }", &["s.toml:2: train.bacth: unknown key; expected one of ", "batch"]),
            ("train.batch = 3", &["s.toml:1: train.batch = 3: is not a set of values; expected one of"]),
            ("[train]\nbatch = { ints = [1, 2] }", &["s.toml:2: train.batch.ints = [1, 2]: is not a set of values"]),
            ("train.batch = {}", &["s.toml:1: train.batch = {}: is not a set of values"]),
            ("train.batch = { int = 3 }", &["s.toml:1: ", "int is not an array"]),
            ("train.batch = { int = [3] }", &["has 1 values; expected { int = [LOW, HIGH] }"]),
            ("train.batch = { int = [3.5, 4] }", &["expected two integers"]),
            ("train.batch = { int = [4, 4] }", &["the first value below the second"]),
            ("train.batch = { int = [1, 4], log = [1, 2] }", &["more than one entry"]),
            ("[train]\n\nbatch = { int = [0, 4] }", &["s.toml:3: train.batch = 0 is not allowed", "1 to 65536"]),
            (
                "train.batch = { uniform = [1, 4] }",
                &["s.toml:1: train.batch = 1.0 is not allowed: expected an integer", "; give { int = [LOW"],
            ),
            (
                "model.kernel = { int = [3, 7] }",
                &["s.toml:1: model.kernel = 4 is not allowed", "with step = N, or list"],
            ),
            ("train.init = { choice = [\"no-run\", \"no-other\"] }", &["s.toml:1: train.init", "no-run: no such file"]),
            ("train.batch = { int = [1, 4], step = 4 }", &["step: expected an integer from 1 to the distance"]),
            ("train.batch = { int = [1, 4], step = 0.5 }", &["step: expected an integer"]),
            ("train.batch = { int = [1, 4], step = 2, log = true }", &["has step and log; give one of them"]),
            ("train.batch = { int = [0, 4], log = true }", &["expected values above 0"]),
            ("train.batch = { int = [1, 4], steps = 2 }", &["more than one entry: steps; beside int, expected step"]),
            ("train.ema = { log = [0, 0.9] }", &["expected values above 0, because their logarithm"]),
            ("train.ema = { uniform = [0.5, 1.5] }", &["s.toml:1: train.ema = 1.5 is not allowed", "below 1"]),
            ("train.ema = { uniform = [0.5, inf] }", &["expected two finite numbers"]),
            ("train.ema = { choice = [0.5] }", &["fewer than two options"]),
            ("train.ema = { choice = [0.5, 0.5] }", &["an option twice"]),
            (
                "model.kind = { choice = [\"cnn\", \"cmm\"] }",
                &["model.kind = \"cmm\"", "choose among whole tables: model"],
            ),
            ("seed = { int = [1, 9] }", &["s.toml:1: seed: a search does not vary this key: a lucky seed"]),
            ("data.validation = { uniform = [0.1, 0.2] }", &["data.validation: a search does not", "same images"]),
            ("train.epochs = { int = [1, 9] }", &["train.epochs: ", "--max-epochs"]),
            ("train = { choice = [1, 2] }", &["train: a search does not vary this key"]),
            (
                "train.optimizer = { choice = [{ lr = 0.1 }, { lr = 0.2 }] }\n\"train.optimizer.lr\" = { log = [1e-3, 1] }",
                &["s.toml:2: train.optimizer.lr: is in train.optimizer, which is varied too"],
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{text:?}: {parts:?} are not in {message:?}");
            let has_hint = message.contains("; give {") || message.contains("; leave values");
            assert_eq!(
                has_hint,
                parts.iter().any(|part| part.contains("give {") || part.contains("step = N")),
                "{message}"
            );
        }
    }
}
