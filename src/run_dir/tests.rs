//! Which directories are free, and metrics that are torn.

use super::*;

#[test]
fn only_what_a_run_left_behind_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let free = || RunDir::is_free(&path).unwrap();
    assert!(free());
    fs::create_dir(&path).unwrap();
    assert!(free());
    fs::write(path.join("config.toml"), "mine").unwrap();
    assert!(!free(), "somebody's config in a folder without a lock");
    fs::write(path.join(".lock"), "").unwrap();
    fs::write(path.join(".last.safetensors.77.tmp"), "half").unwrap();
    assert!(free(), "a run that died before its first checkpoint");
    drop(RunDir::create(&path).unwrap());
    assert!(!path.join(".last.safetensors.77.tmp").exists());
    fs::write(path.join("last.safetensors"), "").unwrap();
    assert!(!free());
}

#[test]
fn metrics_are_read_up_to_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::create(&folder.path().join("run")).unwrap();
    assert_eq!(dir.read_metrics().unwrap(), []);
    let record = |epoch| EpochMetrics {
        epoch,
        lr: 1e-3,
        loss: 0.1 + 0.2,
        accuracy: 0.5,
        val_loss: 1.0 / 3.0,
        val_accuracy: 0.25,
        val_accuracy_dedup: None,
        seconds: 1.5,
        images_per_second: 10.0,
    };
    dir.write_metrics([record(1), record(2)].iter()).unwrap();
    assert_eq!(dir.read_metrics().unwrap(), [record(1), record(2)]);
    let whole = fs::read(dir.metrics_jsonl()).unwrap();
    fs::write(dir.metrics_jsonl(), &whole[..whole.len() - 9]).unwrap();
    assert_eq!(dir.read_metrics().unwrap(), [record(1)]);
    fs::write(dir.metrics_jsonl(), b"\xff\n").unwrap();
    assert_eq!(dir.read_metrics().unwrap(), []);
}
