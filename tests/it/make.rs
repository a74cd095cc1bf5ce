//! `make train` and `make sweep`: the images that `scripts/train.sh` and `scripts/sweep.sh` choose,
//! and the resume command of an interrupted run, executed as printed. `make export` and
//! `make install`.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::common::{Done, TINY, json, python, text, workshop};

/// Prints its arguments, one per line, instead of training. `data synth --out DIR` creates two empty
/// files.
const STUB: &str = "#!/bin/sh\nif [ \"$1 $2 $3\" = 'data synth --out' ]; then mkdir -p \"$4\"; \
                    touch \"$4/my_emotion_train.csv\" \"$4/my_emotion_test.csv\"; \
                    else printf '%s\\n' \"$@\"; fi\n";

fn copy_folder(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

/// A folder with the scripts and configs of the repository, an empty `data/` and the stub.
fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (root, path) = (Path::new(env!("CARGO_MANIFEST_DIR")), folder.path());
    copy_folder(&root.join("configs"), &path.join("configs"));
    for name in ["find_data.sh", "train.sh", "sweep.sh", "install.sh"] {
        fs_err::create_dir_all(path.join("scripts")).unwrap();
        fs_err::copy(root.join("scripts").join(name), path.join("scripts").join(name)).unwrap();
    }
    for name in ["data", "target/release"] {
        fs_err::create_dir_all(path.join(name)).unwrap();
    }
    let program = path.join("target/release/grimace");
    fs_err::write(&program, STUB).unwrap();
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// [`checkout`] with empty files in `data/`.
fn checkout_with(files: &[&str]) -> TempDir {
    let folder = checkout();
    for file in files {
        fs_err::write(folder.path().join("data").join(file), "").unwrap();
    }
    folder
}

/// The command `scripts/NAME ARGS`, with `CONFIG` if it is not empty.
fn script(folder: &Path, name: &str, config: &str, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg(folder.join("scripts").join(name)).args(args);
    command.env("PYTHON", python()).env("OMP_NUM_THREADS", "1").env_remove("CONFIG");
    if !config.is_empty() {
        command.env("CONFIG", config);
    }
    command
}

/// Runs `scripts/train.sh` with the stub; returns the arguments after `train` and the messages.
fn train(folder: &Path, config: &str, args: &[&str]) -> (Vec<String>, String) {
    let done: Done = script(folder, "train.sh", config, args).output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
    let mut words: Vec<String> = done.stdout.lines().map(str::to_owned).collect();
    assert!(!words.is_empty() && words.remove(0) == "train", "{}", done.all());
    (words, done.stderr)
}

const NOTEBOOK: &str = "configs/notebook.toml";

/// The arguments that train the notebook's config on `files`: training images, and test images if
/// the script sets them.
fn notebook_on(files: &[&str]) -> Vec<String> {
    let sets =
        ["data.train", "data.test"].iter().zip(files).flat_map(|(key, file)| ["--set".into(), format!("{key}={file}")]);
    [NOTEBOOK.to_owned()].into_iter().chain(sets).collect()
}

#[test]
fn every_known_file_is_found() {
    let stems = ["my_emotion_train", "fer2013", "icml_face_data", "train"];
    let names = stems.iter().flat_map(|stem| ["csv", "csv.gz", "csv.zip"].map(|end| format!("{stem}.{end}")));
    for name in names.chain(["fer2013.zip".to_owned(), "archive.zip".to_owned()]) {
        let folder = checkout_with(&[&name, "unrelated.csv"]);
        let (words, stderr) = train(folder.path(), "", &[]);
        let file = format!("data/{name}");
        if name == "my_emotion_train.csv" {
            // The config's own file.
            assert_eq!(words, notebook_on(&[]));
            assert_eq!(stderr, format!("training {NOTEBOOK} on {file}\n"));
        } else {
            assert_eq!(words, notebook_on(&[&file]));
            let reason = "because data/my_emotion_train.csv does not exist";
            assert_eq!(stderr, format!("training {NOTEBOOK} on {file}, {reason}\n"));
        }
    }
}

#[test]
fn test_images_come_with_their_training_images() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["train.csv", "test.csv"], &["data/train.csv", "data/test.csv"]),
        (&["train.csv", "test.csv.gz"], &["data/train.csv", "data/test.csv.gz"]),
        (
            &["my_emotion_train.csv.gz", "my_emotion_test.csv"],
            &["data/my_emotion_train.csv.gz", "data/my_emotion_test.csv"],
        ),
        // The first in the order of preference.
        (&["train.csv", "test.csv", "fer2013.csv"], &["data/fer2013.csv"]),
    ];
    for (files, expected) in cases {
        let folder = checkout_with(files);
        assert_eq!(train(folder.path(), "", &[]).0, notebook_on(expected), "{files:?}");
    }
}

#[test]
fn without_data_it_trains_on_synthetic_images() {
    let folder = checkout();
    let synthetic = notebook_on(&["synthetic/my_emotion_train.csv", "synthetic/my_emotion_test.csv"]);
    let (words, stderr) = train(folder.path(), "", &[]);
    assert_eq!(words, synthetic);
    for name in ["my_emotion_train.csv", "fer2013.csv", "icml_face_data.csv", "train.csv", "archive.zip"] {
        assert!(stderr.contains(name), "{stderr}");
    }
    let last = format!("training {NOTEBOOK} on synthetic images in synthetic/, not on real ones\n");
    assert!(stderr.ends_with(&last) && !stderr.contains("make train"), "{stderr}");

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"emotion,pixels\n").unwrap();
    for (name, bytes) in [
        ("my faces.csv", &b"Emotion;Pixels\r3;1 2"[..]),
        ("faces.csv.gz", &gzip.finish().unwrap()),
        ("test.csv", b"id,pixels\n"),
        ("my_emotion_test_labels.csv", b"id,emotion\n"),
        ("fer2013new.csv", b"Usage,Image name,neutral\n"),
        ("empty.csv", b""),
    ] {
        fs_err::write(folder.path().join("data").join(name), bytes).unwrap();
    }
    let (words, stderr) = train(folder.path(), "", &[]);
    assert_eq!(words, synthetic);
    for name in ["data/my faces.csv", "data/faces.csv.gz"] {
        let advice = format!("to train on {name}: make train ARGS='--set \"data.train={name}\"'\n");
        assert!(stderr.contains(&advice), "{stderr}");
    }
    assert_eq!(stderr.matches("make train").count(), 2, "other files have no labeled images: {stderr}");

    // A folder that somebody else made stays as it is.
    fs_err::remove_file(folder.path().join("synthetic/my_emotion_train.csv")).unwrap();
    let done: Done = script(folder.path(), "train.sh", "", &[]).output().unwrap().into();
    assert!(
        done.code == 2 && done.stderr.contains("synthetic/ has no my_emotion_train.csv; move it"),
        "{}",
        done.all()
    );
}

#[test]
fn arguments_override_the_search() {
    let folder = checkout_with(&["fer2013.csv"]);
    let args = ["--set", "data.train=mine/faces.csv", "--out", "runs/a b"];
    let (words, stderr) = train(folder.path(), "", &args);
    assert_eq!((&words[..1], &words[1..]), (&[NOTEBOOK.to_owned()][..], &args.map(str::to_owned)[..]));
    assert_eq!(stderr, "");
    // Other arguments come last, so that they win.
    let (words, _) = train(folder.path(), "", &["--set", "data.test=t.csv"]);
    assert_eq!(words, [notebook_on(&["data/fer2013.csv"]), vec!["--set".into(), "data.test=t.csv".into()]].concat());
    let done: Done = script(folder.path(), "train.sh", "configs/nowhere.toml", &[]).output().unwrap().into();
    assert!(done.code == 2 && done.stderr.contains("configs/best/cpu.toml"), "{}", done.all());
}

#[test]
fn a_config_is_read_as_toml() {
    let folder = checkout_with(&["my faces.csv", "fer2013.csv"]);
    for (config, found) in [
        ("[data]\ntrain = 'data/my faces.csv'\n", true),
        ("data = { test = \"x.csv\", train = \"data/my faces.csv\" }\n", true),
        ("data.train = '''data/my faces.csv'''\n", true),
        ("# [data]\n[ data ] # images\n\"train\"=\"data/my\\u0020faces.csv\"\n", true),
        ("[data]\ntrain = 'data/none.csv'\n", false),
    ] {
        fs_err::write(folder.path().join("c.toml"), config).unwrap();
        let (words, stderr) = train(folder.path(), "c.toml", &[]);
        let expected: &[&str] = if found { &["c.toml"] } else { &["c.toml", "--set", "data.train=data/fer2013.csv"] };
        assert_eq!(words, expected, "{config}");
        assert!(stderr.contains("training c.toml on data/"), "{stderr}");
    }
    // grimace reports an invalid config, and a missing file outside data/.
    for config in ["[data\n", "[data]\ntrain = 'mine/none.csv'\n"] {
        fs_err::write(folder.path().join("c.toml"), config).unwrap();
        assert_eq!(train(folder.path(), "c.toml", &[]), (vec!["c.toml".to_owned()], String::new()), "{config}");
    }
}

/// A config that validates on a Usage gets a fraction for a file without that column.
#[test]
fn a_usage_is_replaced_where_the_file_has_none() {
    let best = "configs/best/cpu.toml";
    let folder = checkout_with(&["train.csv"]);
    let (words, stderr) = train(folder.path(), best, &[]);
    assert_eq!(words, [best, "--set", "data.train=data/train.csv", "--set", "data.validation=0.2"]);
    assert!(stderr.contains("it has no column Usage, so 20% of its rows are the validation rows"), "{stderr}");
    let (words, stderr) = train(folder.path(), best, &["--set", "data.validation=0.1"]);
    assert_eq!(words[3..], ["--set", "data.validation=0.1"]);
    assert!(!stderr.contains("Usage"), "{stderr}");
    let folder = checkout_with(&["icml_face_data.csv"]);
    assert_eq!(train(folder.path(), best, &[]).0, [best, "--set", "data.train=data/icml_face_data.csv"]);
}

#[test]
fn a_sweep_finds_the_same_files() {
    let folder = checkout_with(&["archive.zip"]);
    let done: Done = script(folder.path(), "sweep.sh", "", &["--seeds", "2"]).output().unwrap().into();
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(done.stdout.starts_with("sweep\nconfigs/sweep/average.toml\n"), "{}", done.stdout);
    let end = "--forest\nconfigs/forest.toml\n--set\ndata.train=data/archive.zip\n--seeds\n2\n";
    assert!(done.stdout.ends_with(end), "{}", done.stdout);
    assert!(done.stderr.starts_with("sweeping configs/sweep on data/archive.zip, because "), "{}", done.stderr);
    fs_err::remove_file(folder.path().join("data/archive.zip")).unwrap();
    fs_err::write(folder.path().join("data/faces.csv"), "emotion,pixels\n").unwrap();
    let done: Done = script(folder.path(), "sweep.sh", "", &[]).output().unwrap().into();
    assert!(done.stderr.contains("make sweep ARGS='--set \"data.train=data/faces.csv\"'"), "{}", done.stderr);
    assert!(done.stderr.ends_with("on synthetic images in synthetic/, not on real ones\n"), "{}", done.stderr);
}

/// [`checkout`] with the real program and the workshop's images, whose name is not that of the
/// configs.
fn trainable() -> TempDir {
    let folder = checkout();
    let path = folder.path();
    for name in ["data", "configs/sweep"] {
        fs_err::remove_dir_all(path.join(name)).unwrap();
    }
    fs_err::remove_file(path.join("target/release/grimace")).unwrap();
    symlink(env!("CARGO_BIN_EXE_grimace"), path.join("target/release/grimace")).unwrap();
    symlink(workshop().join("data"), path.join("data")).unwrap();
    let config = TINY.replace("my_emotion_train", "fer2013").replace("epochs = 3", "epochs = 20");
    let config = config + "early_stop = { patience = 0 }\n";
    fs_err::create_dir(path.join("configs/sweep")).unwrap();
    fs_err::write(path.join("configs/my config.toml"), &config).unwrap();
    fs_err::write(path.join("configs/sweep/notebook.toml"), &config).unwrap();
    let forest = "name = \"woods\"\n[data]\ntrain = \"data/fer2013.csv\"\n[forest]\ntrees = 5\nfolds = 2\n";
    fs_err::write(path.join("configs/forest.toml"), forest).unwrap();
    folder
}

/// Interrupts `command` when the run `run` has finished an epoch; returns the resume command that it
/// prints.
fn interrupted(mut command: Command, run: &Path) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (start, metrics) = (Instant::now(), run.join("metrics.jsonl"));
    while !metrics.exists() || text(&metrics).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "no epoch after a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(done.code, 130, "{}", done.all());
    let (_, resume) = done.stderr.rsplit_once("resume with: ").unwrap_or_else(|| panic!("{}", done.all()));
    resume.trim_end().to_owned()
}

/// Runs a command as a user types it, in the folder where it was printed.
fn type_in(folder: &Path, line: &str) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("OMP_NUM_THREADS", "1");
    command.output().unwrap().into()
}

#[test]
fn the_resume_command_of_make_train_works_as_printed() {
    let folder = trainable();
    let run = folder.path().join("my run");
    let command = script(folder.path(), "train.sh", "configs/my config.toml", &["--set", "seed=7", "--out", "my run"]);
    let resume = interrupted(command, &run);
    assert!(resume.starts_with("target/release/grimace train 'configs/my config.toml' --set "), "{resume}");
    for part in ["data.train=data/my_emotion_train.csv", "data.test=data/my_emotion_test.csv", "seed=7", "'my run'"] {
        assert!(resume.contains(part), "no {part} in {resume}");
    }
    let done = type_in(folder.path(), &resume);
    assert!(done.code == 0 && done.stderr.contains("resuming"), "{resume}: {}", done.all());
    assert_eq!(json(run.join("summary.json"))["epochs"], 20);
}

#[test]
fn the_resume_command_names_a_program_on_path_by_its_name() {
    let folder = trainable();
    let path = format!("{}:{}", folder.path().join("target/release").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    let sets = "--set data.train=data/my_emotion_train.csv";
    command.args(["-c", &format!("exec grimace train 'configs/my config.toml' {sets} --out run")]);
    command.current_dir(folder.path()).env("PATH", path).env("OMP_NUM_THREADS", "1");
    let resume = interrupted(command, &folder.path().join("run"));
    assert!(resume.starts_with("grimace train 'configs/my config.toml' --set "), "{resume}");
}

#[test]
fn the_resume_command_of_make_sweep_works_as_printed() {
    let folder = trainable();
    let command = script(folder.path(), "sweep.sh", "", &["--set", "seed=7", "--out", "my sweep"]);
    let resume = interrupted(command, &folder.path().join("my sweep/tiny-seed7"));
    assert!(resume.starts_with("target/release/grimace sweep configs/sweep/notebook.toml "), "{resume}");
    let done = type_in(folder.path(), &resume);
    assert_eq!(done.code, 0, "{resume}: {}", done.all());
    let summary = json(folder.path().join("my sweep/summary.json"));
    assert_eq!(summary["complete"], true, "{summary}");
}

#[test]
fn make_export_replaces_its_own_file_and_no_other() {
    let folder = trainable();
    let path = folder.path();
    fs_err::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile"), path.join("Makefile")).unwrap();
    // `-o build` skips the target `build`, which would compile.
    let make = |args: &[&str]| -> Done {
        Command::new("make").args(["-o", "build", "export"]).args(args).current_dir(path).output().unwrap().into()
    };
    let none = make(&[]);
    assert!(none.code == 2 && none.stderr.contains("no run in runs/; train one first: make train"), "{}", none.all());
    fs_err::create_dir(path.join("runs")).unwrap();
    symlink(workshop().join("run"), path.join("runs/tiny")).unwrap();
    for _ in 0..2 {
        let done = make(&[]);
        assert!(done.code == 0 && done.all().contains("wrote model.pt"), "{}", done.all());
    }
    fs_err::write(path.join("mine.pt"), "mine").unwrap();
    let refused = make(&["OUT=mine.pt"]);
    assert!(refused.code != 0 && refused.stderr.contains("mine.pt: exists; choose another --out"), "{}", refused.all());
    assert_eq!(text(path.join("mine.pt")), "mine");
    let forced = make(&["OUT=mine.pt", "ARGS=--force", "RUN=runs/tiny"]);
    assert_eq!(forced.code, 0, "{}", forced.all());
    assert!(fs_err::read(path.join("mine.pt")).unwrap().starts_with(b"PK"));
}

#[test]
fn make_install_puts_the_program_and_its_pages_below_the_prefix() {
    let folder = trainable();
    let prefix = folder.path().join("some where");
    let install = |path: &str| -> Done {
        let mut command = script(folder.path(), "install.sh", "", &[]);
        command.env("PREFIX", &prefix).env("PATH", path).output().unwrap().into()
    };
    let path = std::env::var("PATH").unwrap();
    for _ in 0..2 {
        let done = install(&path);
        let advice = format!("{0}/bin is not on PATH; add it: export PATH=\"{0}/bin:$PATH\"", prefix.display());
        assert!(done.code == 0 && done.stdout.contains(&advice), "{}", done.all());
    }
    let done = install(&format!("{}/bin:{path}", prefix.display()));
    assert!(done.code == 0 && !done.stdout.contains("PATH"), "{}", done.all());
    for file in [
        "share/man/man1/grimace-train.1",
        "share/bash-completion/completions/grimace",
        "share/zsh/site-functions/_grimace",
        "share/fish/vendor_completions.d/grimace.fish",
    ] {
        assert!(prefix.join(file).metadata().unwrap().len() > 100, "{file}");
    }
    let doctor: Done = Command::new(prefix.join("bin/grimace")).arg("doctor").output().unwrap().into();
    assert!(doctor.code == 0 && doctor.stdout.contains("libtorch"), "{}", doctor.all());
}
