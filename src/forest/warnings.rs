//! Warnings about a forest's run: what makes its result mean less, or the fit slower.

use super::ForestConfig;
use crate::data::class_counts::{count_rows, missing_validation_classes};
use crate::data::dataset::Dataset;
use crate::device;
use crate::util::text::count;

/// The warnings of a run, for the log, `summary.json` and the report.
pub fn forest_warnings(config: &ForestConfig, data: &Dataset) -> Vec<String> {
    let (classes, folds) = (&config.data.classes, config.forest.folds);
    let labels = data.train_labels();
    let found = [
        missing_validation_classes(classes, data.validation_labels()),
        small_classes(classes, labels, folds),
        rows_in_no_fold(labels.len(), folds),
        device::excess_threads(config.threads, device::cores()),
    ];
    found.into_iter().flatten().collect()
}

/// A warning if a class has fewer training rows than there are folds.
fn small_classes(classes: &[String], labels: &[u8], folds: usize) -> Option<String> {
    let is_small = |(_, rows): &(&str, usize)| *rows < folds;
    let small = count_rows(classes, labels).filter(is_small);
    let small: Vec<String> =
        small.map(|(class, rows)| format!("{class} has {}", count(rows, "training row"))).collect();
    (!small.is_empty()).then(|| {
        format!(
            "forest.folds = {folds} is more than a class has rows ({}): some folds lack it, and cross-validation means \
             little; lower forest.folds, or add rows",
            small.join(", ")
        )
    })
}

/// A warning if more than 1% of the training rows are in no fold: those left over when each fold
/// has the same number.
fn rows_in_no_fold(rows: usize, folds: usize) -> Option<String> {
    let left_over = rows.checked_rem(folds)?;
    (left_over * 100 > rows).then(|| {
        format!(
            "{left_over} of {} are in none of the {folds} folds, which all have {}: cross-validation does not validate \
             on them; lower forest.folds, or add rows",
            count(rows, "training row"),
            count(rows / folds, "row")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;
    use crate::data::images::Images;

    fn classes() -> Vec<String> {
        ["sad", "happy", "fear"].map(String::from).to_vec()
    }

    #[test]
    fn classes_need_a_row_for_each_fold() {
        let message = |labels: &[u8], folds| small_classes(&classes(), labels, folds);
        let labels = [0, 0, 0, 1, 1, 2];
        assert_eq!((message(&labels, 0), message(&labels, 1)), (None, None));
        let found = message(&labels, 3).unwrap();
        assert!(
            found.contains("forest.folds = 3") && found.contains("(happy has 2 training rows, fear has 1 "),
            "{found}"
        );
        assert!(found.contains("training row)") && found.contains("lower forest.folds, or add rows"), "{found}");
    }

    #[test]
    fn rows_in_no_fold_are_counted_above_one_percent() {
        assert_eq!(rows_in_no_fold(29, 0), None);
        assert_eq!(rows_in_no_fold(400, 100), None);
        assert_eq!(rows_in_no_fold(403, 100), None, "3 rows are below 1%");
        let found = rows_in_no_fold(150, 100).unwrap();
        assert!(
            found.starts_with("50 of 150 training rows are in none of the 100 folds, which all have 1 row:"),
            "{found}"
        );
        assert!(rows_in_no_fold(100, 99).is_none() && rows_in_no_fold(101, 99).is_some(), "exactly 1% is no warning");
    }

    #[test]
    fn a_run_has_all_its_warnings() {
        let text =
            "name = \"x\"\nthreads = 1000\n[data]\ntrain = \"a.csv\"\nclasses = [\"a\", \"b\"]\n[forest]\nfolds = 4\n";
        let config: ForestConfig = from_text(text, "f.toml").unwrap();
        let images = |labels: &[u8]| Images { labels: Some(labels.to_vec()), ..Images::default() };
        let data = |train: &[u8], validation: &[u8]| Dataset {
            train: images(train),
            validation: images(validation),
            ..Dataset::default()
        };
        let found = forest_warnings(&config, &data(&[0, 0, 0, 0, 0, 1], &[0]));
        assert_eq!(found.len(), 4, "{found:?}");
        let found = forest_warnings(&config, &data(&[0, 0, 0, 0, 1, 1, 1, 1], &[0, 1]));
        assert!(found.len() == 1 && found[0].contains("threads = 1000"), "{found:?}");
    }
}
