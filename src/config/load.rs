//! Loads config files and applies overrides such as `--set key=value`; errors name file, line and
//! key.

use std::path::Path;

use toml::{Table, Value};

use super::diagnostic::Diagnostic;
use super::overrides::{Override, apply};
use super::serde_message::wrong_type;
use super::toml_table::read_table;
use super::{Config, RawConfig, kind_change};
use crate::util::error::input;
use crate::util::files::read_small_text;
use crate::util::validate::InvalidValue;

/// Maximum bytes of a config.
pub const MAX_CONFIG: u64 = 1 << 20;

type SerdeError = serde_path_to_error::Error<toml::de::Error>;

/// Why a TOML table is not a valid config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An unknown or missing key, or a value of a wrong type.
    #[error(transparent)]
    Parse(#[from] SerdeError),
    /// A value out of range.
    #[error(transparent)]
    Value(#[from] InvalidValue),
}

/// A type of config file.
pub trait ConfigFile: Sized {
    /// Keys whose values are tables.
    const TABLES: &[&str];
    /// Tables whose keys depend on their `kind`, each with a function that parses it alone.
    const TAGGED_TABLES: &[(&[&str], ParseTable)];
    /// A table that only the other type of config file has, and the command for that type.
    const FOREIGN_TABLE: (&str, &str);

    /// Adds keys that may be omitted and that serde has no default for.
    fn with_defaults(table: Table) -> Table {
        table
    }

    /// Parses the keys and checks the values.
    ///
    /// # Errors
    /// The first error of serde, or the first value out of range.
    fn from_table(table: Table) -> Result<Self, ConfigError>;
}

/// Loads the config at `path` and applies the `--set` options `sets` (`key=value`, dotted keys) in
/// order.
///
/// # Errors
/// An input error that names the file, the line if known, the key and what is allowed.
pub fn load<C: ConfigFile>(path: &Path, sets: &[String]) -> anyhow::Result<C> {
    let text = read_small_text(path, MAX_CONFIG, "a config file in TOML")?;
    let source = path.display().to_string();
    parse(&text, &source, sets)
}

/// [`load`] with overrides from several options.
///
/// # Errors
/// As [`load`]; a bad override is named with its option.
pub fn load_with_overrides<C: ConfigFile>(path: &Path, overrides: &[Override<'_>]) -> anyhow::Result<C> {
    let text = read_small_text(path, MAX_CONFIG, "a config file in TOML")?;
    parse_with_overrides(&text, &path.display().to_string(), overrides)
}

/// [`load`] for TOML in memory, such as that of a checkpoint; errors name it `source`.
///
/// # Errors
/// As [`load`].
pub fn from_text<C: ConfigFile>(text: &str, source: &str) -> anyhow::Result<C> {
    parse(text, source, &[])
}

/// A resolved config with other values: each `key=value`, with a dotted key and a TOML value.
///
/// # Errors
/// What is wrong, without a file; mostly it begins with the key.
pub fn with_values(config: &Config, values: &[String]) -> anyhow::Result<Config> {
    let text = config.to_toml()?;
    let mut table = read_table(&text)?;
    values.iter().try_for_each(|value| apply(&mut table, value))?;
    check(&table, &text).map_err(|problem| input(problem.message))
}

pub(crate) fn parse<C: ConfigFile>(text: &str, source: &str, sets: &[String]) -> anyhow::Result<C> {
    let overrides: Vec<Override<'_>> = sets.iter().map(|set| Override { option: "--set", text: set }).collect();
    parse_with_overrides(text, source, &overrides)
}

fn parse_with_overrides<C: ConfigFile>(text: &str, source: &str, overrides: &[Override<'_>]) -> anyhow::Result<C> {
    let mut table = read_table(text).map_err(|error| {
        let line = error.span().map_or(String::new(), |span| format!(":{}", line_of(text, span.start)));
        input(format!("{source}{line}: not valid TOML: {}", error.message()))
    })?;
    if overrides.is_empty() {
        return check(&table, text).map_err(|problem| input(format!("{source}{problem}")));
    }
    for item in overrides {
        apply(&mut table, item.text).map_err(|problem| input(format!("{item}: {problem}")))?;
    }
    check(&table, text).map_err(|problem| {
        // If the file alone is valid, an override is at fault: the last one of a related key, or
        // else any of them.
        let file = read_table(text).ok().filter(|alone| check::<C>(alone, text).is_ok());
        let Some(file) = file else { return input(format!("{source}{problem}")) };
        if let Some(message) = kind_change::explain::<C>(source, &file, &table, overrides, &problem) {
            return input(message);
        }
        let blamed = overrides.iter().rev().find(|item| is_related(item.key(), &problem.key));
        let blamed = blamed.map_or(overrides, std::slice::from_ref);
        let blamed: Vec<String> = blamed.iter().map(ToString::to_string).collect();
        input(format!("{source} with {}: {}", blamed.join(" "), problem.message))
    })
}

/// Whether an overridden key and the key of an error are the same, or one is in the table of the
/// other.
fn is_related(set: &str, key: &str) -> bool {
    let contains =
        |table: &str, key: &str| key == table || key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
    !key.is_empty() && (contains(key, set) || contains(set, key))
}

/// Tables in `[train]` with a default `kind`.
const DEFAULT_KINDS: [(&str, &str); 2] = [("optimizer", "adam"), ("schedule", "hold_then_decay")];

fn with_default_kinds(mut table: Table) -> Table {
    if let Some(train) = table.get_mut("train").and_then(Value::as_table_mut) {
        for (name, kind) in DEFAULT_KINDS {
            if let Some(inner) = train.get_mut(name).and_then(Value::as_table_mut) {
                inner.entry("kind").or_insert_with(|| Value::String(kind.to_owned()));
            }
        }
    }
    table
}

/// Parses a table alone, for an error that names the wrong key.
pub type ParseTable = fn(Table) -> Result<(), SerdeError>;

impl ConfigFile for Config {
    const TABLES: &[&str] = &[
        "data",
        "augment",
        "model",
        "train",
        "train.optimizer",
        "train.schedule",
        "train.early_stop",
        "train.progressive",
        "train.checkpoint_every",
        "predict",
    ];
    const TAGGED_TABLES: &[(&[&str], ParseTable)] = &[
        (&["model"], crate::model::config::probe),
        (&["train", "optimizer"], crate::optim::optimizer_config::probe_optimizer),
        (&["train", "schedule"], crate::optim::schedule::probe),
    ];
    const FOREIGN_TABLE: (&str, &str) = ("forest", "this is a forest's config; fit it with grimace forest");

    fn with_defaults(table: Table) -> Table {
        with_default_kinds(table)
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        Ok(serde_path_to_error::deserialize::<_, RawConfig>(table)?.check()?)
    }
}

/// Checks a parsed config; `text` is its file, for line numbers.
fn check<C: ConfigFile>(table: &Table, text: &str) -> Result<C, Diagnostic> {
    let table = &C::with_defaults(table.clone());
    for key in C::TABLES {
        let value = key.split('.').try_fold(None, |value: Option<&Value>, name| {
            let table = value.map_or(Some(table), Value::as_table)?;
            table.get(name).map(Some)
        });
        // serde would accept an array as the values of a table in order.
        if let Some(Some(value)) = value
            && !value.is_table()
        {
            return Err(Diagnostic::new(text, key, wrong_type(key, value, "a table")));
        }
    }
    let (key, advice) = C::FOREIGN_TABLE;
    if table.get(key).is_some_and(Value::is_table) {
        return Err(Diagnostic::new(text, key, format!("{key}: {advice}")));
    }
    // Tagged tables first: serde buffers them, and the error of the whole config loses the key.
    for (path, parse) in C::TAGGED_TABLES {
        let inner = path.iter().try_fold(table, |table, name| table.get(*name).and_then(Value::as_table));
        if let Some(inner) = inner {
            parse(inner.clone()).map_err(|error| Diagnostic::from_serde(text, &path.join("."), &error))?;
        }
    }
    C::from_table(table.clone()).map_err(|error| match error {
        ConfigError::Parse(error) => Diagnostic::from_serde(text, "", &error),
        ConfigError::Value(error) => Diagnostic::from_value(text, &error),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::config::Validation;
    use crate::model::cnn::CnnConfig;
    use crate::model::config::ModelConfig;
    use crate::optim::optimizer::{OptimizerConfig, SgdConfig};

    const SMALL: &str = "name = \"x\"\n[data]\ntrain = \"a.csv\"\n\n[model]\nkind = \"cnn\"\n[train]\nbatch = 32\n";

    fn error(text: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        format!("{:#}", parse::<Config>(text, "c.toml", &sets).unwrap_err())
    }

    fn good(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        parse(SMALL, "c.toml", &sets).unwrap()
    }

    #[test]
    fn everything_but_name_train_and_model_has_a_default() {
        let config = good(&[]);
        assert_eq!(config.seed, 42);
        assert_eq!(config.data.validation, Validation::Fraction(0.2));
        assert!(config.data.group_duplicates);
        assert_eq!(config.train.epochs, 50);
        assert_eq!(config.model, ModelConfig::Cnn(CnnConfig::default()));
        for missing in ["name = \"x\"\n", "train = \"a.csv\"\n", "[model]\nkind = \"cnn\"\n"] {
            let message = error(&SMALL.replace(missing, ""), &[]);
            assert!(message.contains("missing; this key is required"), "{message}");
        }
    }

    #[test]
    fn resolved_config_round_trips() {
        let config = good(&["train.optimizer={kind=\"sgd\",lr=0.1}", "data.validation=\"val/x.csv\"", "device=cuda:1"]);
        let text = config.to_toml().unwrap();
        assert_eq!(parse::<Config>(&text, "again", &[]).unwrap(), config);
    }

    #[test]
    fn overrides_are_toml_or_strings_and_merge_into_tables() {
        assert_eq!(good(&["train.batch=128"]).train.batch, 128);
        assert_eq!(good(&["name=big-one"]).name, "big-one");
        assert_eq!(good(&["data.validation=PublicTest"]).data.validation, Validation::Usage("PublicTest".into()));
        let adam = good(&["train.optimizer={beta1=0.8}", "train.optimizer.lr=0.01"]);
        let OptimizerConfig::Adam(adam) = &adam.train.optimizer else { panic!("not adam: {adam:?}") };
        assert_eq!((adam.lr, adam.beta1), (0.01, 0.8));
        let sgd = good(&["train.optimizer.beta1=0.8", "train.optimizer={kind=\"sgd\",lr=0.1}"]);
        assert_eq!(sgd.train.optimizer, OptimizerConfig::Sgd(SgdConfig { lr: 0.1, ..SgdConfig::default() }));
    }

    #[test]
    fn errors_name_file_line_key_and_allowed_values() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                &SMALL.replace("batch", "bacth"),
                &[],
                &["c.toml:8: train.bacth: unknown key; expected one of ", "batch, "],
            ),
            (&SMALL.replace("32", "\"many\""), &[], &["c.toml:8: train.batch = \"many\" is not allowed: expected an"]),
            (&SMALL.replace("32", "0"), &[], &["c.toml:8", "train.batch = 0", "1 to 65536"]),
            (&SMALL.replace("\"cnn\"", "\"cmm\""), &[], &["c.toml:6: model.kind = \"cmm\"", "\"cnn\""]),
            ("name = ", &[], &["c.toml:1", "not valid TOML"]),
            (SMALL, &["train.batch=-1"], &["--set train.batch=-1", "train.batch"]),
            (SMALL, &["train.lr=1"], &["--set train.lr=1", "train.lr", "expected one of"]),
            (SMALL, &["augment.zoom=1.5"], &["--set augment.zoom=1.5", "0 to below 1"]),
            (SMALL, &["train"], &["--set train", "expected key=value"]),
            (SMALL, &["name.x=1"], &["name is not a table"]),
            (SMALL, &["device=gpu"], &["device", "cuda:N"]),
            (
                &SMALL.replace("\"cnn\"", "\"cnn\"\nkernel = \"abc\""),
                &["model.filters=[4]"],
                &["c.toml:7: model.kernel = "],
            ),
            (SMALL, &["model.kernels=3"], &["--set model.kernels=3: model.kernels: unknown key; expected", "kernel, "]),
            (
                SMALL,
                &["train.optimizer.lr=fast"],
                &["--set train.optimizer.lr=fast", "train.optimizer.lr = \"fast\" is not allowed: expected a number"],
            ),
            (SMALL, &["train.optimizer=3"], &["train.optimizer = 3 is not allowed: expected a table"]),
            (SMALL, &["train.schedule={kind=\"constant\",hold=3}"], &["train.schedule.hold: unknown key"]),
            (
                SMALL,
                &["train.schedule={kind=\"cosine\",warmup=50}"],
                &["train.schedule.warmup = 50", "below train.epochs"],
            ),
            (SMALL, &["train.progressive={from=30}"], &["train.progressive.from = 30", "multiple of 4"]),
            (
                SMALL,
                &["train.progressive={to=40}"],
                &["train.progressive.to = 40", "from train.progressive.from, which is 48"],
            ),
            (SMALL, &["train.progressive={from=32}"], &["train.progressive.from = 32 ", "48 (off), or", "resnet"]),
            (
                &SMALL.replace("cnn", "resnet"),
                &["train.progressive={from=16}", "model.widths=[8,8,8,8,8]", "model.blocks=[1,1,1,1,1]"],
                &["train.progressive.from = 16 ", "stages that leave a pixel"],
            ),
            (
                SMALL,
                &["train.schedule={kind=\"plateau\",factor=1}"],
                &["train.schedule.factor = 1 ", "above 0, below 1"],
            ),
            (
                SMALL,
                &["train.schedule={kind=\"plateau\",min_lr=0.002}"],
                &["train.schedule.min_lr = 0.002 ", "0 to train.optimizer.lr, which is 0.001"],
            ),
            (SMALL, &["train.schedule={kind=\"plateau\",warmup=-1}"], &["train.schedule.warmup = -1 "]),
            (SMALL, &["train.schedule={kind=\"plateau\",hold=3}"], &["train.schedule.hold: unknown key", "patience, "]),
            (
                SMALL,
                &["train.soft_label_weight=1.5", "data.soft_labels=s.csv"],
                &["train.soft_label_weight = 1.5 ", "0 to 1"],
            ),
            (
                SMALL,
                &["train.soft_label_weight=0.5"],
                &["train.soft_label_weight = 0.5 ", "1 without data.soft_labels"],
            ),
            (SMALL, &["data.soft_labels=\"\""], &["data.soft_labels = \"\" ", "the path of a CSV"]),
            (SMALL, &["train.label_smoothing=1"], &["train.label_smoothing = 1 ", "0 (off) to below 1"]),
            (SMALL, &["train.layer_decay=-0.5"], &["train.layer_decay = -0.5 ", "above 0, at most 1 (off)"]),
            (SMALL, &["train.freeze=[\"block0\"]"], &["train.freeze = [\"block0\"] ", "block1, block2"]),
            (
                &SMALL.replace("cnn", "resnet"),
                &["model.stem_pool=\"2x2\""],
                &["model.stem_pool = \"2x2\" is not allowed: expected true, false or \"3x3\""],
            ),
            (SMALL, &["train.ema=1"], &["train.ema = 1 ", "0 (off) to below 1"]),
            (SMALL, &["train.clip_norm=-1"], &["train.clip_norm = -1 ", "0 (off) to 1e6"]),
            (SMALL, &["train.checkpoint_every={epochs=0}"], &["train.checkpoint_every", "above 0"]),
            (SMALL, &["train.checkpoint_every={seconds=1e300,epochs=1}"], &["train.checkpoint_every", "1e9 seconds"]),
            (SMALL, &["data.validation=1.5"], &["data.validation = 1.5"]),
            (SMALL, &["model.filters=[8,8,8,8,8,8]"], &["model.filters", "at least one pixel"]),
            (&SMALL.replace("cnn", "vgg"), &["model.dense=[0]"], &["model.dense = [0]", "1 to 65536"]),
            (
                &SMALL.replace("cnn", "resnet"),
                &["model.blocks=[2]"],
                &["model.blocks = [2]", "as many", "model.widths"],
            ),
            (&SMALL.replace("cnn", "resnet"), &["model.depth=3"], &["model.depth: unknown key", "stochastic_depth"]),
            (
                SMALL,
                &["train.optimizer={kind=\"sdg\"}"],
                &["train.optimizer.kind = \"sdg\" is not allowed: expected one of ", "\"sgd\""],
            ),
        ];
        for (text, sets, expected) in cases {
            let message = error(text, sets);
            for part in *expected {
                assert!(message.contains(part), "{part:?} is not in {message:?}");
            }
        }
    }
    #[test]
    fn a_changed_kind_names_the_keys_that_do_not_apply() {
        let text = SMALL.to_owned()
            + "schedule = { hold = 3, rate = 0.2 }\noptimizer = { kind = \"adam\", lr = 0.01, eps = 1e-8 }\n";
        let message = error(&text, &["train.schedule.kind=cosine"]);
        assert_eq!(
            message,
            "c.toml with --set train.schedule.kind=cosine: train.schedule.kind changed from \"hold_then_decay\" to \"cosine\", which has no hold, rate; replace the table: --set 'train.schedule={kind=\"cosine\"}'"
        );
        // Keys of both kinds and those of other options stay.
        let message = error(&text, &["train.optimizer.kind=sgd", "train.optimizer.momentum=0.8"]);
        let replacement =
            "which has no eps; replace the table: --set 'train.optimizer={kind=\"sgd\", lr=0.01, momentum=0.8}'";
        assert!(message.ends_with(replacement), "{message}");
        for replacement in ["train.schedule={kind=\"cosine\"}", "train.optimizer={kind=\"sgd\", lr=0.01, momentum=0.8}"]
        {
            parse::<Config>(&text, "c.toml", &[replacement.to_owned()]).unwrap();
        }
        // Keys that the user sets are their own mistake.
        let message = error(&text, &["train.schedule={kind=\"cosine\"}", "train.schedule.hold=3"]);
        assert!(message.contains("with --set train.schedule.hold=3: train.schedule.hold: unknown key"), "{message}");
    }
}
