use std::path::PathBuf;

use fs_err as fs;

use super::*;
use crate::data::images::TRAINING;

/// Writes PNG files of one gray value each: `happy/1.png 70` and so on.
fn folder(files: &[(&str, u8)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, value) in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(48, 48, image::Luma([*value])).save(path).unwrap();
    }
    folder
}

fn classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

fn read_with(root: &Path, names: &str, labels: LabelPolicy, on_bad_row: OnBadRow) -> Result<Images> {
    let classes = classes();
    let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
    read_allow_empty(root, ReadOptions { label_names: &names, on_bad_row, ..ReadOptions::new(&classes, labels) })
}

#[test]
fn pixels_labels_ids_and_usages_are_those_of_the_files() {
    let data = folder(&[("train/Happy/2.png", 20), ("train/anger/1.png", 10), ("test/sad/3.png", 30)]);
    let images = read_with(data.path(), "", LabelPolicy::Required, OnBadRow::Error).unwrap();
    assert_eq!(images.pixels.all().unwrap().chunks(PIXELS).map(|image| image[0]).collect::<Vec<_>>(), [10, 20, 30]);
    assert_eq!(images.labels.as_deref(), Some(&[0, 3, 4][..]));
    assert_eq!(images.ids.as_deref().unwrap(), ["train/anger/1.png", "train/Happy/2.png", "test/sad/3.png"]);
    assert_eq!(images.usages.as_deref().unwrap(), [TRAINING, TRAINING, "test"]);
    assert_eq!((&images.rows[..], images.file_rows), (&[0, 1, 2][..], 3));
    assert!(images.notes[0].ends_with(": class folders: anger -> 0 angry, Happy -> 3 happy, sad -> 4 sad"));
    let ignored = read_with(data.path(), "", LabelPolicy::Ignored, OnBadRow::Error).unwrap();
    assert_eq!((ignored.len(), ignored.notes.len(), ignored.labels), (3, 0, None));
    let skip = read_with(data.path(), "sad=skip", LabelPolicy::Required, OnBadRow::Error).unwrap();
    assert_eq!((skip.len(), skip.left_out, skip.labels.unwrap().as_slice()), (2, 1, &[0, 3][..]));
}

#[test]
fn files_without_a_class_or_pixels_are_errors_or_skipped() {
    let data = folder(&[("happy/1.png", 10), ("contempt/2.png", 10), ("3.png", 30), ("sad/5.png", 9)]);
    fs::write(data.path().join("happy/4.jpg"), "text").unwrap();
    let error = |labels| read_with(data.path(), "", labels, OnBadRow::Error).unwrap_err().to_string();
    for labels in [LabelPolicy::Required, LabelPolicy::Optional] {
        let error = error(labels);
        assert!(error.contains("contempt/2.png: its folder is no class: unknown label \"contempt\""), "{error}");
        assert!(error.contains("set data.labels = { contempt = \"CLASS\" }"), "{error}");
        assert!(error.contains("3.png: is in no class folder; expected a folder"), "{error}");
        assert!(error.ends_with("fix or remove them, or set data.on_bad_row = \"skip\" to skip such files"), "{error}");
    }
    let root = data.path().display().to_string();
    let ignored = error(LabelPolicy::Ignored);
    assert!(ignored.starts_with(&format!("{root}/happy/4.jpg: is not a picture")), "{ignored}");
    let images = read_with(data.path(), "", LabelPolicy::Required, OnBadRow::Skip).unwrap();
    assert_eq!((images.labels.as_deref().unwrap(), images.skipped.count()), (&[3, 4][..], 3));
    assert_eq!((&images.rows[..], images.hashes.len(), images.file_rows), (&[0, 4][..], 2, 5));
    let flat = folder(&[("1.png", 1), ("2.png", 2)]);
    let images = read_with(flat.path(), "", LabelPolicy::Optional, OnBadRow::Error).unwrap();
    assert_eq!((images.labels, images.usages, images.ids.unwrap().len()), (None, None, 2));
}

#[test]
fn classes_are_fer2013s_or_those_of_the_folders() {
    let found = |folders: &[&str], names: &str| {
        let files: Vec<String> = folders.iter().map(|name| format!("{name}/1.png")).collect();
        let data = folder(&files.iter().map(|file| (file.as_str(), 1)).collect::<Vec<_>>());
        let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
        default_classes(data.path(), &names)
    };
    let fer2013 = ["Anger", "disgust", "fear", "HAPPY", "sadness", "surprise", "neutral"];
    assert_eq!(found(&fer2013, "").unwrap(), classes());
    let in_splits: Vec<String> = fer2013.iter().map(|name| format!("train/{name}")).collect();
    assert_eq!(found(&in_splits.iter().map(String::as_str).collect::<Vec<_>>(), "").unwrap(), classes());
    assert_eq!(found(&["smile", "Frown"], "").unwrap(), ["Frown", "smile"]);
    assert_eq!(found(&["happy", "sad"], "").unwrap(), ["happy", "sad"], "two of FER2013's");
    let with_contempt: Vec<&str> = fer2013.into_iter().chain(["contempt"]).collect();
    assert_eq!(found(&with_contempt, "").unwrap().len(), 8);
    assert_eq!(found(&with_contempt, "contempt=skip").unwrap(), classes());
    assert_eq!(found(&["0", "1", "10", "2"], "").unwrap(), ["0", "1", "2", "10"]);
    let names = "1=surprise,2=fear,3=disgust,4=happy,5=sad,6=angry,7=neutral";
    assert_eq!(found(&["1", "2", "3", "4", "5", "6", "7"], names).unwrap(), classes());
    assert_eq!(found(&["1", "2"], "1=smile,2=frown").unwrap(), ["frown", "smile"]);
    assert_eq!(default_classes(&PathBuf::from("/nonexistent"), &LabelNames::Classes), None);
}
