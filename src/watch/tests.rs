//! Golden screens. `GRIMACE_WRITE_GOLDEN=1 cargo test watch` writes them; look at the difference.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::run_status::{RunState, RunStatus};
use super::screen::{Theme, draw};
use super::snapshot_text;
use super::source::{SweepStatus, Watched, look};
use super::sweep_panel::Selection;
use crate::metrics::{EpochMetrics, Monitor};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn now() -> SystemTime {
    NOW + Duration::from_secs(1_000_000)
}

fn record(epoch: u32) -> EpochMetrics {
    let e = f64::from(epoch);
    EpochMetrics {
        epoch,
        lr: 1e-3 * 0.9f64.powf((e - 10.0).max(0.0)),
        loss: 0.6 + 1.2 / e.sqrt(),
        accuracy: 0.75 - 0.45 / e.sqrt(),
        val_loss: 0.95 + 0.8 / e + 0.002 * e,
        val_accuracy: 0.63 - 0.33 / e - 0.0005 * e,
        val_accuracy_dedup: None,
        val_macro_f1: None,
        seconds: 12.0 + e / 10.0,
        images_per_second: 2500.0 - e,
    }
}

fn run(epochs: u32, state: RunState) -> RunStatus {
    RunStatus {
        name: "notebook".to_owned(),
        state,
        is_forest: false,
        records: (1..=epochs).map(record).collect(),
        max_epochs: Some(50),
        patience: 5,
        monitor: Monitor::ValAccuracy,
        validation_rows: Some(5742),
        device: Some("cpu, f32".to_owned()),
        forest_accuracy: None,
        changed: Some(now() - Duration::from_secs(6)),
        ..RunStatus::without_files(PathBuf::from("runs/mine"), RunState::Waiting)
    }
}

fn sweep() -> SweepStatus {
    let named = |name: &str, run: RunStatus| RunStatus { name: name.to_owned(), ..run };
    let ended = |reason: &str| RunState::Ended(reason.to_owned());
    let failed = RunState::Failed("CUDA out of memory".to_owned());
    let mut runs = vec![
        named("notebook-seed42", run(31, ended("early_stop"))),
        named("notebook-seed43", run(50, ended("epochs"))),
        named("wide-seed42", run(18, RunState::Training)),
        named("wide-seed43", RunStatus::without_files(PathBuf::from("x"), failed)),
    ];
    for name in ["deep-seed42", "deep-seed43", "large-batch-seed42", "large-batch-seed43"] {
        runs.push(RunStatus::without_files(Path::new("runs/five").join(name), RunState::Waiting));
    }
    SweepStatus { path: PathBuf::from("runs/five"), runs }
}

fn rendered(watched: &Watched, (width, height): (u16, u16), color: bool, selection: Selection) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let theme = Theme { color };
    terminal.draw(|frame| draw(frame, watched, selection, theme, now(), None)).unwrap();
    terminal.backend().buffer().clone()
}

/// The characters of a screen, without trailing spaces.
fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width).map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

/// Compares a screen with the file of this name in `tests/golden/watch`.
fn check(name: &str, watched: &Watched, size: (u16, u16)) {
    let found = text(&rendered(watched, size, false, Selection::default()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/watch").join(format!("{name}.txt"));
    if std::env::var_os("GRIMACE_WRITE_GOLDEN").is_some() {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, &found).unwrap();
    }
    let expected = fs_err::read_to_string(&path).unwrap();
    assert!(found == expected, "{name} is\n{found}\nexpected\n{expected}");
}

#[test]
fn golden_screens() {
    let training = Watched::Run(Box::new(run(23, RunState::Training)));
    let finished = Watched::Run(Box::new(run(50, RunState::Ended("epochs".to_owned()))));
    let first = Watched::Run(Box::new(run(0, RunState::Training)));
    let nothing = Watched::Nothing { path: PathBuf::from("runs") };
    check("training-80x24", &training, (80, 24));
    check("training-120x40", &training, (120, 40));
    check("finished-80x24", &finished, (80, 24));
    check("first-epoch-80x24", &first, (80, 24));
    check("nothing-80x24", &nothing, (80, 24));
    check("sweep-80x24", &Watched::Sweep(sweep()), (80, 24));
    check("sweep-120x40", &Watched::Sweep(sweep()), (120, 40));
}

#[test]
fn without_color_no_cell_has_one() {
    for (watched, color) in [
        (Watched::Run(Box::new(run(23, RunState::Training))), false),
        (Watched::Run(Box::new(run(23, RunState::Training))), true),
        (Watched::Sweep(sweep()), false),
        (Watched::Sweep(sweep()), true),
    ] {
        let buffer = rendered(&watched, (100, 30), color, Selection::default());
        let colored = buffer.content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count();
        assert_eq!(colored > 0, color, "{colored} cells");
    }
}

/// Any size is drawn, and any metrics.
#[test]
fn any_screen_is_drawn() {
    let mut odd = run(3, RunState::Training);
    for (record, value) in odd.records.iter_mut().zip([f64::NAN, f64::INFINITY, -1e300]) {
        (record.loss, record.val_loss, record.val_accuracy, record.accuracy) = (value, value, value, value);
        (record.seconds, record.images_per_second, record.lr) = (value, value, value);
    }
    let one = run(1, RunState::Died);
    let mut huge = sweep();
    huge.runs = huge.runs.iter().cycle().take(5000).cloned().collect();
    let forest =
        RunStatus { is_forest: true, forest_accuracy: Some(0.45), ..run(0, RunState::Ended("done".to_owned())) };
    let empty = SweepStatus { path: PathBuf::from("x"), runs: Vec::new() };
    for watched in [
        Watched::Run(Box::new(odd)),
        Watched::Run(Box::new(one)),
        Watched::Run(Box::new(forest)),
        Watched::Sweep(huge),
        Watched::Sweep(empty),
        Watched::Nothing { path: PathBuf::from("runs/\u{1b}[31m") },
    ] {
        for size in [(1, 1), (3, 200), (20, 5), (40, 12), (80, 24), (250, 70), (500, 1)] {
            let screen = text(&rendered(&watched, size, true, Selection::default()));
            assert!(!screen.contains('\u{1b}'));
        }
        assert!(!snapshot_text(&watched, now()).contains('\u{1b}'));
    }
}

#[test]
fn the_selected_run_can_be_seen() {
    let mut many = sweep();
    many.runs =
        (0..100).map(|number| RunStatus { name: format!("run-{number}-"), ..run(2, RunState::Waiting) }).collect();
    let watched = Watched::Sweep(many.clone());
    let mut selection = Selection::default();
    for (by, expected) in [(-200, 0), (1, 1), (30, 31), (500, 99), (-10, 89)] {
        selection.shift(by, &many);
        assert_eq!(selection.position(&many), expected);
        let screen = text(&rendered(&watched, (80, 24), false, selection));
        assert!(screen.contains(&format!("> run-{expected}-")), "{screen}");
        assert!(screen.contains(&format!("run-{expected}-:")), "{screen}");
    }
}

#[test]
fn time_left_follows_the_epochs_so_far() {
    let close = |found: Option<f64>, expected: f64| {
        assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?}, expected {expected}");
    };
    // The last five epochs took 13.6 to 14.0 s: 14.0 - 0.2 in the median.
    let training = run(20, RunState::Training);
    close(training.seconds_left(now()), 13.8 * 30.0 - 6.0);
    close(training.progress(now()), (20.0 + 6.0 / 13.8) / 50.0);
    assert_eq!(training.epochs_without_improvement(), Some(0));
    assert_eq!(run(20, RunState::Died).seconds_left(now()), None);
    assert_eq!(run(0, RunState::Training).seconds_left(now()), None);
    let late = RunStatus { changed: Some(now() - Duration::from_secs(600)), ..run(50, RunState::Training) };
    close(late.seconds_left(now()), 0.0);
    // Two runs have ended; one trains, four wait.
    let sweep = sweep();
    let mean = f64::midpoint(sweep.runs[0].elapsed(now()), sweep.runs[1].elapsed(now()));
    close(sweep.seconds_left(now()), sweep.runs[2].seconds_left(now()).unwrap() + 4.0 * mean);
}

#[test]
fn files_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs");
    assert_eq!(look(&path).unwrap(), Watched::Nothing { path: path.clone() });
    fs_err::create_dir_all(path.join("mine")).unwrap();
    assert_eq!(look(&path).unwrap(), Watched::Nothing { path: path.clone() });
    let config = "name = \"x\"\n[train]\nepochs = 9\n[train.early_stop]\npatience = 3\nmonitor = \"val_loss\"\n";
    fs_err::write(path.join("mine/config.toml"), config).unwrap();
    let line = serde_json::to_string(&record(1)).unwrap();
    fs_err::write(path.join("mine/metrics.jsonl"), format!("{line}\n{{\"epoch\":2,")).unwrap();
    let Watched::Run(found) = look(&path).unwrap() else { panic!("a run is expected") };
    assert_eq!((found.name.as_str(), found.max_epochs, found.patience), ("x", Some(9), 3));
    assert_eq!((found.records.len(), &found.state, found.monitor), (1, &RunState::Died, Monitor::ValLoss));
    let lock = crate::run_dir::Lock::acquire(&path.join("mine/.lock")).unwrap();
    let Watched::Run(found) = look(&path.join("mine")).unwrap() else { panic!("a run is expected") };
    assert_eq!(found.state, RunState::Training);
    drop(lock);
    fs_err::write(path.join("mine/summary.json"), "{\"stopped\": \"epochs\", \"validation_rows\": 100}").unwrap();
    let Watched::Run(found) = look(&path.join("mine")).unwrap() else { panic!("a run is expected") };
    assert_eq!((found.state.describe(), found.validation_rows), ("done", Some(100)));
    assert!(look(&path.join("mine/config.toml")).unwrap_err().to_string().contains("is a file; expected a run"));
}

#[test]
fn a_sweep_is_read_by_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("five");
    fs_err::create_dir_all(path.join("a-seed1")).unwrap();
    fs_err::write(path.join("a-seed1/config.toml"), "name = \"a\"\n").unwrap();
    fs_err::write(path.join("a-seed1/summary.json"), "{\"stopped\": \"early_stop\"}").unwrap();
    fs_err::write(path.join("b-seed1.failed"), "no memory\n").unwrap();
    fs_err::write(path.join("sweep.json"), r#"{"runs": ["a-seed1", "b-seed1", "c-seed1", "../other", 7]}"#).unwrap();
    let Watched::Sweep(found) = look(folder.path()).unwrap() else { panic!("a sweep is expected") };
    let states: Vec<_> = found.runs.iter().map(|run| (run.name.as_str(), run.state.describe())).collect();
    assert_eq!(states, [("a-seed1", "early stop"), ("b-seed1", "failed"), ("c-seed1", "waiting")]);
    let text = snapshot_text(&Watched::Sweep(found), now());
    assert!(text.contains("1 of 3 runs done, 1 failed") && text.contains("b-seed1 failed: no memory"), "{text}");
    fs_err::write(path.join("sweep.json"), "{").unwrap();
    let Watched::Sweep(found) = look(&path).unwrap() else { panic!("a sweep is expected") };
    assert_eq!(found.runs, []);
}
