//! README.md, docs/ and configs/: generated parts are up to date, commands run, snippets load, links
//! lead somewhere.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use grimace::config::{Config, from_text};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use crate::common::{Done, TINY, bad, good, json, text, workshop};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown pages, relative to the root.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "fuzz/README.md"]
        .map(PathBuf::from)
        .to_vec();
    for entry in fs_err::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path.strip_prefix(root()).unwrap().to_path_buf());
        }
    }
    pages.sort();
    pages
}

/// The configs of a folder and its subfolders.
fn configs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["configs", "configs/best", "configs/sweep"] {
        for entry in fs_err::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 13, "{found:?}");
    found
}

/// The fenced blocks of a page whose info string is `info`.
fn blocks(page: &Path, info: &str) -> Vec<String> {
    let markdown = text(root().join(page));
    let mut blocks = Vec::new();
    let mut inside = false;
    for event in Parser::new(&markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(found))) if *found == *info => {
                inside = true;
                blocks.push(String::new());
            }
            Event::Text(text) if inside => blocks.last_mut().unwrap().push_str(&text),
            Event::End(TagEnd::CodeBlock) => inside = false,
            _ => {}
        }
    }
    blocks
}

#[test]
fn generated_files_are_up_to_date() {
    for (file, args) in [
        ("docs/configuration.md", ["page", "configuration"]),
        ("docs/cli.md", ["page", "cli"]),
        ("configs/train.schema.json", ["schema", "train"]),
        ("configs/forest.schema.json", ["schema", "forest"]),
    ] {
        let generated = good(root(), &[&["generate"], &args[..]].concat()).stdout;
        assert!(generated == text(root().join(file)), "{file} is stale; run scripts/generate.sh");
    }
}

#[test]
fn every_config_can_be_printed() {
    for path in configs() {
        let relative = path.strip_prefix(root().join("configs")).unwrap().with_extension("");
        let printed = good(root(), &["generate", "config", relative.to_str().unwrap()]).stdout;
        let text = text(&path);
        assert_eq!(printed, text.split_once('\n').unwrap().1, "{}", path.display());
    }
    bad(root(), &["generate", "config", "none"], 2, &["possible values", "best/cpu"]);
}

#[test]
fn completions_and_manual_pages_cover_every_command() {
    let folder = tempfile::tempdir().unwrap();
    good(folder.path(), &["generate", "man", "--out", "man/man1"]);
    bad(folder.path(), &["generate", "man", "--out", "man/man1"], 2, &["grimace.1: exists; choose another --out"]);
    let train = text(folder.path().join("man/man1/grimace-train.1"));
    assert!(train.contains("\\-\\-resume") && train.contains("Override a key"), "{train}");
    for command in ["", "-data-check", "-sweep", "-predict"] {
        assert!(folder.path().join(format!("man/man1/grimace{command}.1")).exists(), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = good(folder.path(), &["generate", "completions", shell]).stdout;
        assert!(script.contains("ensemble") && script.contains("on-bad-row"), "{shell}");
    }
    // The script is one that bash accepts and that completes.
    let script = format!(
        "source <({program} generate completions bash); COMP_WORDS=(grimace ev); COMP_CWORD=1; \
         _grimace grimace ev grimace; echo \"${{COMPREPLY[*]}}\"",
        program = env!("CARGO_BIN_EXE_grimace")
    );
    let done: Done = Command::new("bash").args(["-c", &script]).output().unwrap().into();
    assert_eq!((done.code, done.stdout.trim()), (0, "evaluate"), "{}", done.all());
}

/// A config as JSON, and the schema that its first line names.
fn config_with_schema(path: &Path) -> (Value, Value) {
    let config = text(path);
    let schema = config.lines().next().unwrap().strip_prefix("#:schema ").expect("the first line names the schema");
    let schema = json(path.parent().unwrap().join(schema));
    (serde_json::to_value(toml::from_str::<Table>(&config).unwrap()).unwrap(), schema)
}

#[test]
fn configs_agree_with_their_schema() {
    for path in configs() {
        let (config, schema) = config_with_schema(&path);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        // What Grimace refuses, the schema refuses.
        for (pointer, value) in [("/data/trian", "x.csv".into()), ("/seed", "x".into()), ("/threads", 5000.into())] {
            let mut wrong = config.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            wrong.pointer_mut(parent).unwrap()[key] = value;
            assert!(!validator.is_valid(&wrong), "{}: {pointer}", path.display());
        }
    }
    let (notebook, schema) = config_with_schema(&root().join("configs/notebook.toml"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut config = notebook.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        validator.is_valid(&config)
    };
    assert!(with("/model/kind", "cnn".into()) && !with("/model/kind", "nn".into()));
    assert!(with("/model/dropout", 0.1.into()) && !with("/model/dropout", 1.0.into()));
    assert!(!with("/model/widths", serde_json::json!([64])), "a key of another kind");
    assert!(with("/data/validation", "PublicTest".into()) && !with("/data/validation", 1.5.into()));
    assert!(with("/train/schedule", serde_json::json!({"kind": "cosine", "warmup": 2})));
    assert!(with("/data/labels", serde_json::json!({"joy": "happy"})) && !with("/data/labels", 3.into()));
}

/// `config` with the same keys and names, but a small network, so that it trains in a second.
fn shrunk(config: &str) -> String {
    let mut table: Table = toml::from_str(config).unwrap();
    let set = |table: &mut Table, key: &str, value: toml::Value| {
        if table.contains_key(key) || key == "epochs" || key == "trees" {
            table.insert(key.to_owned(), value);
        }
    };
    let tiny: Table = toml::from_str("list = [16, 16]\none = [16]\nblock = [1]").unwrap();
    for name in ["train", "model", "forest"] {
        let Some(part) = table.get_mut(name).and_then(toml::Value::as_table_mut) else { continue };
        match name {
            "train" => {
                set(part, "epochs", 1.into());
                if let Some(schedule) = part.get_mut("schedule").and_then(toml::Value::as_table_mut) {
                    set(schedule, "warmup", 0.0.into());
                }
            }
            "forest" => {
                set(part, "trees", 5.into());
                set(part, "folds", 2.into());
            }
            _ => {
                let kind = part["kind"].as_str().unwrap().to_owned();
                let small: &[(&str, &str)] = match kind.as_str() {
                    "resnet" => &[("widths", "one"), ("blocks", "block")],
                    "vgg" => &[("filters", "one"), ("dense", "one")],
                    _ => &[("filters", "list"), ("dense", "one")],
                };
                for (key, value) in small {
                    part.insert((*key).to_owned(), tiny[*value].clone());
                }
            }
        }
    }
    toml::to_string(&table).unwrap()
}

/// The folder in which the commands of a page run.
fn reader() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for config in configs() {
        let target = path.join(config.strip_prefix(root()).unwrap());
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::write(target, shrunk(&text(&config))).unwrap();
    }
    fs_err::create_dir_all(path.join("data")).unwrap();
    fs_err::create_dir_all(path.join("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_grimace"), path.join("bin/grimace")).unwrap();
    let train = text(workshop().join("data/my_emotion_train.csv"));
    for name in ["my_emotion_train.csv", "my_emotion_test.csv", "my_emotion_test_labels.csv"] {
        fs_err::copy(workshop().join("data").join(name), path.join("data").join(name)).unwrap();
    }
    let mut fer2013 = String::from("emotion,pixels,Usage\n");
    let mut votes =
        String::from("Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n");
    for (row, line) in train.lines().skip(1).enumerate() {
        let usage = ["Training", "Training", "Training", "PublicTest", "PrivateTest"][row / 120];
        fer2013 += &format!("{line},{usage}\n");
        let votes_of = (0..7).map(|class| if row % 7 == class { "9," } else { "0," }).collect::<String>();
        votes += &format!("{usage},fer{row:07}.png,{votes_of}1,0,0\n");
    }
    fs_err::write(path.join("data/fer2013.csv"), fer2013).unwrap();
    fs_err::write(path.join("data/fer2013new.csv"), votes).unwrap();
    good(path, &["train", "configs/notebook.toml", "--out", "runs/mine"]);
    folder
}

/// Runs the `sh` blocks of a page from top to bottom, as a reader would.
fn run_blocks(page: &str) {
    // The quick start trains for a minute.
    let script = blocks(Path::new(page), "sh").concat().replace("train.epochs=15", "train.epochs=1");
    let script = script.replace("data synth --out faces", "data synth --out faces --train 300 --test 60");
    assert!(!script.is_empty(), "{page} has no commands to run");
    let folder = reader();
    let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-e", "-u", "-c", &script]).current_dir(folder.path()).env("PATH", path).env("OMP_NUM_THREADS", "1");
    let done: Done = command.output().unwrap().into();
    assert_eq!(done.code, 0, "{page}:\n{script}\n{}", done.all());
}

macro_rules! commands_of_pages {
    ($($name:ident: $page:literal,)*) => {
        /// Pages with commands that run.
        const TESTED: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $name() {
                run_blocks($page);
            }
        )*
    };
}

commands_of_pages! {
    commands_of_audit_run: "docs/audit.md",
    commands_of_data_run: "docs/data.md",
    commands_of_finetuning_run: "docs/finetuning.md",
    commands_of_forest_run: "docs/forest.md",
    commands_of_gpu_run: "docs/gpu.md",
    commands_of_inference_run: "docs/inference.md",
    commands_of_many_machines_run: "docs/many-machines.md",
    commands_of_readme_run: "README.md",
    commands_of_profile_run: "docs/profile.md",
    commands_of_sweeps_run: "docs/sweeps.md",
    commands_of_training_run: "docs/training.md",
    commands_of_updating_run: "docs/updating.md",
}

#[test]
fn every_page_with_commands_is_tested() {
    for page in pages() {
        let name = page.to_string_lossy().into_owned();
        let runs = !blocks(&page, "sh").is_empty();
        assert_eq!(TESTED.contains(&name.as_str()), runs, "{name}: list it in commands_of_pages, or not");
        let markdown = text(root().join(&page));
        let indented = markdown.lines().filter(|line| line.starts_with("    grimace ")).count();
        assert_eq!(indented, 0, "{name}: commands in indented blocks are not tested; use ```sh");
    }
}

/// Merges `over` into `base`, table by table.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[test]
fn config_snippets_load() {
    let mut count = 0;
    for page in pages() {
        for snippet in blocks(&page, "toml") {
            let mut config: Table = toml::from_str(TINY).unwrap();
            let over: Table = toml::from_str(&snippet).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            merge(&mut config, over);
            let loaded = from_text::<Config>(&toml::to_string(&config).unwrap(), "snippet");
            loaded.unwrap_or_else(|error| panic!("{}: {snippet}\n{error:#}", page.display()));
            count += 1;
        }
    }
    assert!(count >= 5, "{count} snippets");
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(page: &Path) -> BTreeSet<String> {
    let markdown = text(page);
    let (mut anchors, mut heading) = (BTreeSet::new(), None::<String>);
    for event in Parser::new(&markdown) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let heading = heading.take().unwrap_or_default().to_lowercase();
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
            }
            _ => {}
        }
    }
    anchors
}

/// The targets of links and images of a page, those in HTML included.
fn links(page: &Path) -> Vec<String> {
    let markdown = text(page);
    let mut links = Vec::new();
    for event in Parser::new(&markdown) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push(dest_url.into_string())
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                for attribute in ["src=\"", "srcset=\"", "href=\""] {
                    let parts = html.split(attribute).skip(1);
                    links.extend(parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())));
                }
            }
            _ => {}
        }
    }
    links
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let path = root().join(&page);
        for link in links(&path).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}: no such file", page.display());
            assert!(
                anchor.is_empty() || anchors(&target).contains(anchor),
                "{}: {link}: no such heading",
                page.display()
            );
            count += 1;
        }
    }
    assert!(count >= 20, "{count} links");
}
