//! `scripts/scale/model.py`: the tables of docs/scale.md.

use std::path::Path;
use std::process::Command;

use grimace::config::{Config, from_text};
use grimace::model::Net;

use crate::common::{Done, good, python};

fn model(args: &[&str]) -> Done {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(python()).arg("scripts/scale/model.py").args(args).current_dir(root).output().unwrap().into()
}

#[test]
fn the_page_has_the_tables_of_the_model() {
    let done = model(&["--check", "docs/scale.md"]);
    assert_eq!(done.code, 0, "{}", done.all());
    let done = model(&["--check", "docs/scale.md", "--set", "dollars=2"]);
    assert!(done.code == 1 && done.stderr.contains("are not those of the model"), "{}", done.all());
    let done = model(&["--set", "dollar=2"]);
    assert!(done.code == 1 && done.stderr.contains("expected KEY=VALUE with a positive number"), "{}", done.all());
    let (cheap, usual) = (model(&["epochs", "--set", "dollars=1"]), model(&["epochs"]));
    assert!(cheap.code == 0 && cheap.stdout != usual.stdout, "{}", cheap.all());
}

#[test]
fn the_model_counts_the_parameters_of_the_configs() {
    let table = model(&["steps"]).stdout;
    for name in ["notebook", "best/cpu", "best/gpu"] {
        let text = good(Path::new("."), &["generate", "config", name]).stdout;
        let config: Config = from_text(&text, name).unwrap();
        let network = Net::new(&config.model, 7, 0, tch::Device::Cpu).unwrap();
        let row = table.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let count: String = row.split('|').nth(2).unwrap().chars().filter(char::is_ascii_digit).collect();
        assert_eq!(count, network.parameter_count().to_string(), "{row}");
    }
}
