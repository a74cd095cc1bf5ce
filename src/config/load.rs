//! Reading a config file and laying `--set key=value` over it, with errors that name file, line and key.

use std::path::Path;

use toml::{Table, Value};

use super::diagnostic::{Diagnostic, MAX_SHOWN, find_line, key_of, problem, shown_value};
use super::overrides::apply;
use super::toml_table::read_table;
use super::{Config, RawConfig};
use crate::forest::config::{ForestConfig, RawForestConfig};
use crate::util::error::input;
use crate::util::files::read_small_text;
use crate::util::text::short;

/// Bytes of the largest config that is read.
pub const MAX_CONFIG: u64 = 1 << 20;

/// A kind of config: how it is read from a table, and what is checked.
pub trait Checked: Sized {
    /// Keys whose values are tables.
    const TABLES: &[&str];
    /// Tables whose `kind` decides about their keys, each with a way to read it by itself.
    const PROBES: &[(&[&str], Probe)];
    /// A table that configs of the other kind have, and what to do with those.
    const ELSEWHERE: (&str, &str);

    /// Adds what a reader may leave out.
    fn complete(table: Table) -> Table {
        table
    }

    /// Reads the keys, then checks the values.
    ///
    /// # Errors
    /// What serde complains about, or the first value out of range.
    fn read(table: Table) -> Result<Result<Self, String>, serde_path_to_error::Error<toml::de::Error>>;
}

/// Reads the config at `path` and applies `sets` (each `key=value`, dotted keys) in their order.
///
/// # Errors
/// An input error that names the file, the line where TOML has one, the key and what is allowed.
pub fn load<C: Checked>(path: &Path, sets: &[String]) -> anyhow::Result<C> {
    let text = read_small_text(path, MAX_CONFIG, "a config file in TOML")?;
    let shown = path.display().to_string();
    parse(&text, &shown, sets)
}

/// [`load`] for a text that is already in memory, such as a checkpoint's; `shown` names it in errors.
///
/// # Errors
/// As [`load`].
pub fn from_text<C: Checked>(text: &str, shown: &str) -> anyhow::Result<C> {
    parse(text, shown, &[])
}

pub(crate) fn parse<C: Checked>(text: &str, shown: &str, sets: &[String]) -> anyhow::Result<C> {
    let mut table = read_table(text).map_err(|error| {
        let line = error.span().map_or(String::new(), |span| format!(":{}", line_of(text, span.start)));
        input(format!("{shown}{line}: not valid TOML: {}", error.message()))
    })?;
    if sets.is_empty() {
        return checked(&table, text).map_err(|problem| input(format!("{shown}{problem}")));
    }
    for set in sets {
        apply(&mut table, set).map_err(|problem| input(format!("--set {}: {problem}", short(set, MAX_SHOWN))))?;
    }
    checked(&table, text).map_err(|problem| {
        // Who made the mistake? If the file alone is fine, one of the sets did.
        let file_is_fine = read_table(text).is_ok_and(|alone| checked::<C>(&alone, text).is_ok());
        let key = problem.key();
        let blamed = sets.iter().rev().find(|set| set.split('=').next().is_some_and(|k| related(k.trim(), &key)));
        match blamed {
            Some(set) if file_is_fine => {
                input(format!("{shown} with --set {}: {}", short(set, MAX_SHOWN), problem.message))
            }
            _ => input(format!("{shown}{problem}")),
        }
    })
}

/// Whether a key set on the command line and the key of an error speak of the same place.
fn related(set: &str, key: &str) -> bool {
    let inside =
        |long: &str, short: &str| long == short || long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    !key.is_empty() && (inside(set, key) || inside(key, set))
}

/// Tables of the defaults that have a `kind`: where one is given without it, the default's holds.
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

/// Reads a table by itself, to learn what is wrong with it.
pub type Probe = fn(Table) -> Result<(), serde_path_to_error::Error<toml::de::Error>>;

impl Checked for Config {
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
    const PROBES: &[(&[&str], Probe)] = &[
        (&["model"], crate::model::config::probe),
        (&["train", "optimizer"], crate::optim::optimizer::probe_optimizer),
        (&["train", "schedule"], crate::optim::schedule::probe),
    ];
    const ELSEWHERE: (&str, &str) = ("forest", "this is a forest's config; fit it with grimace forest");

    fn complete(table: Table) -> Table {
        with_default_kinds(table)
    }

    fn read(table: Table) -> Result<Result<Self, String>, serde_path_to_error::Error<toml::de::Error>> {
        serde_path_to_error::deserialize(table).map(RawConfig::check)
    }
}

impl Checked for ForestConfig {
    const TABLES: &[&str] = &["data", "forest"];
    const PROBES: &[(&[&str], Probe)] = &[];
    const ELSEWHERE: (&str, &str) = ("model", "this is a network's config; train it with grimace train");

    fn read(table: Table) -> Result<Result<Self, String>, serde_path_to_error::Error<toml::de::Error>> {
        serde_path_to_error::deserialize(table).map(RawForestConfig::check)
    }
}

fn checked<C: Checked>(table: &Table, text: &str) -> Result<C, Diagnostic> {
    let table = &C::complete(table.clone());
    for place in C::TABLES {
        let value = place.split('.').try_fold(None, |at: Option<&Value>, name| {
            let table = at.map_or(Some(table), Value::as_table)?;
            table.get(name).map(Some)
        });
        // serde would take an array for a table's values in their order.
        if let Some(Some(value)) = value
            && !value.is_table()
        {
            let message = format!("{place}: invalid type: {}, expected a table", shown_value(value));
            return Err(Diagnostic { line: find_line(text, place), path: (*place).to_owned(), message });
        }
    }
    let (key, advice) = C::ELSEWHERE;
    if table.get(key).is_some_and(Value::is_table) {
        let message = format!("{key}: {advice}");
        return Err(Diagnostic { line: find_line(text, key), path: key.to_owned(), message });
    }
    // First the tables whose `kind` decides about their keys: serde reads those through a buffer that loses the key.
    for (place, probe) in C::PROBES {
        let inner = place.iter().try_fold(table, |table, name| table.get(*name).and_then(Value::as_table));
        if let Some(inner) = inner {
            probe(inner.clone()).map_err(|error| problem(&place.join("."), &error.into(), text))?;
        }
    }
    let read = C::read(table.clone()).map_err(|error| problem("", &error.into(), text))?;
    read.map_err(|message| Diagnostic { line: find_line(text, key_of(&message)), path: String::new(), message })
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
            assert!(message.contains("missing field"), "{message}");
        }
    }

    #[test]
    fn a_resolved_config_reads_back_the_same() {
        let config = good(&["train.optimizer={kind=\"sgd\",lr=0.1}", "data.validation=\"val/x.csv\"", "device=cuda:1"]);
        let text = config.to_toml().unwrap();
        assert_eq!(parse::<Config>(&text, "again", &[]).unwrap(), config);
    }

    #[test]
    fn sets_are_toml_or_strings_and_add_to_tables() {
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
    fn errors_name_file_line_key_and_what_is_allowed() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (&SMALL.replace("batch", "bacth"), &[], &["c.toml:8", "train.bacth", "expected one of", "`batch`"]),
            (&SMALL.replace("32", "\"many\""), &[], &["c.toml:8", "train.batch", "invalid type: string"]),
            (&SMALL.replace("32", "0"), &[], &["c.toml:8", "train.batch = 0", "1 to 65536"]),
            (&SMALL.replace("\"cnn\"", "\"cmm\""), &[], &["c.toml:", "model", "cmm", "`cnn`"]),
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
                &["c.toml:7: model.kernel: invalid type"],
            ),
            (SMALL, &["model.kernels=3"], &["--set model.kernels=3", "model.kernels: unknown field", "`kernel`"]),
            (
                SMALL,
                &["train.optimizer.lr=fast"],
                &["--set train.optimizer.lr=fast", "train.optimizer.lr: invalid type"],
            ),
            (SMALL, &["train.optimizer=3"], &["train.optimizer: invalid type: integer `3`, expected a table"]),
            (SMALL, &["train.schedule={kind=\"constant\",hold=3}"], &["train.schedule.hold: unknown field"]),
            (
                SMALL,
                &["train.schedule={kind=\"cosine\",warmup=50}"],
                &["train.schedule.warmup = 50", "below train.epochs"],
            ),
            (SMALL, &["train.progressive={from=30}"], &["train.progressive.from = 30", "multiple of 4"]),
            (SMALL, &["train.progressive={from=32}"], &["train.progressive.from = 32 ", "48 (off), or", "resnet"]),
            (
                &SMALL.replace("cnn", "resnet"),
                &["train.progressive={from=16}", "model.widths=[8,8,8,8,8]", "model.blocks=[1,1,1,1,1]"],
                &["train.progressive.from = 16 ", "so few stages"],
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
            (SMALL, &["train.schedule={kind=\"plateau\",hold=3}"], &["train.schedule.hold: unknown", "`patience`"]),
            (
                SMALL,
                &["train.soft_label_weight=1.5", "data.soft_labels=s.csv"],
                &["train.soft_label_weight = 1.5 ", "0 to 1"],
            ),
            (
                SMALL,
                &["train.soft_label_weight=0.5"],
                &["train.soft_label_weight = 0.5 ", "data.soft_labels beside it"],
            ),
            (SMALL, &["data.soft_labels=\"\""], &["data.soft_labels = \"\" ", "the path of a CSV"]),
            (SMALL, &["train.label_smoothing=1"], &["train.label_smoothing = 1 ", "0 (off) to below 1"]),
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
            (
                &SMALL.replace("cnn", "resnet"),
                &["model.depth=3"],
                &["model.depth: unknown field", "`stochastic_depth`"],
            ),
            (SMALL, &["train.optimizer={kind=\"sdg\"}"], &["train.optimizer", "sdg", "`sgd`"]),
        ];
        for (text, sets, wanted) in cases {
            let message = error(text, sets);
            for part in *wanted {
                assert!(message.contains(part), "{part:?} is not in {message:?}");
            }
        }
    }
}
