//! The metrics in a model card: tables with intervals, of the predictions for the validation images.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::data::config::DataConfig;
use crate::metrics::{
    ConfusionMatrix, Predictions, bootstrap_interval, expected_calibration_error, macro_f1, per_class, wilson_interval,
};
use crate::run_dir::ValidationPredictions;
use crate::util::text::count;

/// Groups with fewer images are left out: their intervals say nothing.
const MIN_GROUP: usize = 10;

/// Max groups in the table.
const MAX_GROUPS: usize = 50;

/// What is known of the calibration error of the probabilities.
#[derive(Debug, Clone, Copy)]
pub enum Ece {
    /// They are before calibration.
    Before,
    /// They are before calibration; this is the error with temperatures of the other half of the images.
    CrossFitted(f64),
    /// They are after calibration, with temperatures that were fitted on the same images.
    AfterFit,
}

/// The mean of the predictions of several models, each with its temperature; `None` if one has none,
/// or they are not for the same images.
///
/// # Errors
/// Those of [`Predictions::average`].
pub fn mean_predictions(
    all: &[Option<ValidationPredictions>],
    temperatures: &[f64],
) -> Result<Option<ValidationPredictions>> {
    let Some(all) = all.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some(first) = all.first() else { return Ok(None) };
    if all.iter().any(|one| (&one.hashes, &one.labels) != (&first.hashes, &first.labels)) {
        return Ok(None);
    }
    let classes = first.probabilities.len() / first.labels.len().max(1);
    let parts =
        all.iter().zip(temperatures).map(|(one, temperature)| one.predictions(classes).with_temperature(*temperature));
    let mean = Predictions::average(&parts.collect::<Vec<_>>())?;
    Ok(Some(ValidationPredictions {
        predicted: mean.predicted(),
        probabilities: mean.probabilities,
        rows: first.rows.clone(),
        hashes: first.hashes.clone(),
        labels: first.labels.clone(),
        duplicates: first.duplicates.clone(),
        groups: first.groups.clone(),
    }))
}

/// The metrics of the validation images: of all, by class and by group.
pub fn validation_metrics(title: &str, found: &ValidationPredictions, data: &DataConfig, ece: Ece) -> String {
    let classes = &data.classes;
    let width = classes.len().max(1);
    let mut text = format!(
        "\n## {title}\n\nOn {}, without test-time augmentation. They selected the epoch of the weights, so expect less on \
         unseen images. Intervals are of 95%, over the images: Wilson's for fractions, else a bootstrap; they do not \
         cover other seeds, cameras or people.\n\n",
        count(found.labels.len(), "validation image")
    );
    text += "| metric | value | 95% interval |\n| --- | --: | --: |\n";
    let correct = found.correct();
    fraction_line(&mut text, "accuracy", correct.iter().filter(|correct| **correct).count(), correct.len());
    let kept: Vec<bool> = correct
        .iter()
        .zip(&found.duplicates)
        .filter(|(_, duplicate)| !**duplicate)
        .map(|(correct, _)| *correct)
        .collect();
    let name = format!("accuracy without {}", count(correct.len() - kept.len(), "exact duplicate"));
    if kept.len() < correct.len() {
        fraction_line(&mut text, &name, kept.iter().filter(|correct| **correct).count(), kept.len());
    }
    let rows: Vec<usize> = (0..correct.len()).collect();
    let f1 = |rows: &[usize]| macro_f1(&confusion(found, rows, width));
    number_line(&mut text, "macro F1", f1(&rows), bootstrap_interval(rows.len(), f1));
    let error = |rows: &[usize]| ece_of(&found.probabilities, &found.labels, rows, width);
    let name = match ece {
        Ece::Before | Ece::CrossFitted(_) => "ECE before calibration",
        Ece::AfterFit => "ECE after calibration",
    };
    number_line(&mut text, name, error(&rows), bootstrap_interval(rows.len(), error));
    match ece {
        Ece::Before => {}
        Ece::CrossFitted(after) => {
            number_line(&mut text, "ECE after calibration", after, None);
            text += "\nThe ECE after calibration is that of each half of the images, with the temperature of the other half.\n";
        }
        Ece::AfterFit => {
            text += "\nThe temperatures were fitted on these images, so the ECE is lower than on others.\n";
        }
    }
    text += &classes_table(found, classes);
    text + &groups_table(found, data)
}

fn confusion(found: &ValidationPredictions, rows: &[usize], classes: usize) -> ConfusionMatrix {
    let pick = |values: &[u8]| rows.iter().filter_map(|row| values.get(*row).copied()).collect::<Vec<u8>>();
    ConfusionMatrix::new(&pick(&found.labels), &pick(&found.predicted), classes)
}

fn ece_of(probabilities: &[f32], labels: &[u8], rows: &[usize], classes: usize) -> f64 {
    let picked: Vec<f32> = rows
        .iter()
        .filter_map(|row| probabilities.get(row * classes..(row + 1) * classes))
        .flatten()
        .copied()
        .collect();
    let labels: Vec<u8> = rows.iter().filter_map(|row| labels.get(*row).copied()).collect();
    expected_calibration_error(&picked, classes, &labels)
}

fn fraction_line(text: &mut String, name: &str, successes: usize, count: usize) {
    if count == 0 {
        let _ = writeln!(text, "| {name} | - | no such images |");
        return;
    }
    number_line(text, name, successes as f64 / count as f64, wilson_interval(successes, count));
}

fn number_line(text: &mut String, name: &str, value: f64, interval: Option<(f64, f64)>) {
    let _ = writeln!(text, "| {name} | {value:.4} | {} |", describe(interval));
}

fn describe(interval: Option<(f64, f64)>) -> String {
    interval.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"))
}

/// A fraction with its interval.
pub fn fraction(successes: u64, count: u64) -> String {
    if count == 0 {
        return "-".to_owned();
    }
    let interval = wilson_interval(successes as usize, count as usize);
    format!("{:.3} ({})", successes as f64 / count as f64, describe(interval))
}

fn classes_table(found: &ValidationPredictions, classes: &[String]) -> String {
    let rows: Vec<usize> = (0..found.labels.len()).collect();
    let matrix = confusion(found, &rows, classes.len());
    let mut text = "\n| class | images | recall | precision | F1 |\n| --- | --: | --: | --: | --: |\n".to_owned();
    for (number, class) in per_class(&matrix, classes).into_iter().enumerate() {
        let correct = matrix.correct(number);
        let predicted = matrix.predicted(number);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.3} |",
            class.class.replace('|', "\\|"),
            class.rows,
            fraction(correct, class.rows),
            fraction(correct, predicted),
            class.f1
        );
    }
    text
}

fn groups_table(found: &ValidationPredictions, data: &DataConfig) -> String {
    let (Some(groups), Some(column)) = (&found.groups, &data.group) else {
        return "\nNo groups of people are known (`data.group`), so it is not known whether the model does equally well for \
                all.\n"
            .to_owned();
    };
    let mut rows_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        rows_of.entry(group).or_default().push(row);
    }
    let all = rows_of.len();
    let mut shown: Vec<(&str, Vec<usize>)> = rows_of.into_iter().filter(|(_, rows)| rows.len() >= MIN_GROUP).collect();
    shown.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
    shown.truncate(MAX_GROUPS);
    shown.sort_by_key(|(name, _)| *name);
    let mut text = format!(
        "\n| {} | images | accuracy | macro F1 | ECE |\n| --- | --: | --: | --: | --: |\n",
        column.replace('|', "\\|")
    );
    let (correct, width) = (found.correct(), data.classes.len().max(1));
    for (name, rows) in &shown {
        let right = rows.iter().filter(|row| correct.get(**row).copied().unwrap_or(false)).count();
        let f1 = |rows: &[usize]| macro_f1(&confusion(found, rows, width));
        let error = |rows: &[usize]| ece_of(&found.probabilities, &found.labels, rows, width);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            name.replace('|', "\\|"),
            rows.len(),
            fraction(right as u64, rows.len() as u64),
            with_interval(rows, f1),
            with_interval(rows, error)
        );
    }
    if all > shown.len() {
        let _ = writeln!(
            text,
            "\nLeft out: {} with fewer than {MIN_GROUP} images, or smaller than the {MAX_GROUPS} largest.",
            count(all - shown.len(), "group")
        );
    }
    text
}

/// A statistic of `rows` with its interval.
fn with_interval(rows: &[usize], statistic: impl Fn(&[usize]) -> f64) -> String {
    let of_sample = |positions: &[usize]| {
        statistic(&positions.iter().filter_map(|position| rows.get(*position).copied()).collect::<Vec<_>>())
    };
    format!("{:.3} ({})", statistic(rows), describe(bootstrap_interval(rows.len(), of_sample)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: Option<Vec<String>>) -> ValidationPredictions {
        let labels: Vec<u8> = (0..40).map(|row| row % 2).collect();
        let predicted: Vec<u8> = (0..40).map(|row| if row < 10 { 0 } else { row % 2 }).collect();
        ValidationPredictions {
            rows: (0..40).collect(),
            hashes: (0..40).map(|row| row.to_string()).collect(),
            probabilities: predicted
                .iter()
                .flat_map(|class| if *class == 0 { [0.75, 0.25] } else { [0.25, 0.75] })
                .collect(),
            duplicates: vec![false; 40],
            labels,
            predicted,
            groups,
        }
    }

    #[test]
    fn classes_and_groups_have_intervals() {
        let classes = ["sad".to_owned(), "happy|glad".to_owned()];
        let table = classes_table(&found(None), &classes);
        // Happy: 15 of 20 are found, and all 15 that are said to be.
        assert!(
            table.contains("| happy\\|glad | 20 | 0.750 (0.531 to 0.888) | 1.000 (0.796 to 1.000) | 0.857 |"),
            "{table}"
        );
        let groups: Vec<String> = (0..40).map(|row| if row < 20 { "old" } else { "young" }.to_owned()).collect();
        let mut data: DataConfig = toml::from_str("train = \"x.csv\"\ngroup = \"age\"").unwrap();
        data.classes = classes.to_vec();
        let table = groups_table(&found(Some(groups)), &data);
        assert!(
            table.contains("| old | 20 | 0.750 (0.531 to 0.888)") && table.contains("| young | 20 | 1.000"),
            "{table}"
        );
        let few = vec!["one".to_owned(); 3].into_iter().chain(vec!["many".to_owned(); 37]).collect();
        assert!(groups_table(&found(Some(few)), &data).contains("Left out: 1 group with fewer than 10 images"));
        assert!(groups_table(&found(None), &data).contains("No groups of people are known"));
    }

    #[test]
    fn large_groups_are_shown_whatever_their_names() {
        // Sixty groups of ten that come first, and a large one.
        let groups: Vec<String> =
            (0..60).flat_map(|group| vec![format!("a{group:02}"); 10]).chain(vec!["z".to_owned(); 200]).collect();
        let found = ValidationPredictions {
            rows: vec![0; groups.len()],
            hashes: vec![String::new(); groups.len()],
            labels: vec![0; groups.len()],
            predicted: vec![0; groups.len()],
            duplicates: vec![false; groups.len()],
            probabilities: [0.75, 0.25].repeat(groups.len()),
            groups: Some(groups),
        };
        let mut data: DataConfig = toml::from_str("train = \"x.csv\"\ngroup = \"age\"").unwrap();
        data.classes = vec!["sad".into(), "happy".into()];
        let table = groups_table(&found, &data);
        assert!(table.contains("| z | 200 | 1.000 (0.981 to 1.000)"), "{table}");
        assert!(table.contains("Left out: 11 groups"), "{table}");
    }

    #[test]
    fn the_mean_of_models_needs_the_same_images() {
        let one = found(None);
        let mut other = found(None);
        other.probabilities = [0.5f32, 0.5].repeat(40);
        let mean = mean_predictions(&[Some(one.clone()), Some(other.clone())], &[1.0, 1.0]).unwrap().unwrap();
        assert!((mean.probabilities[0] - 0.625).abs() < 1e-6 && mean.predicted == one.predicted);
        assert!(mean_predictions(&[Some(one.clone()), None], &[1.0, 1.0]).unwrap().is_none());
        other.hashes[0] = "x".to_owned();
        assert!(mean_predictions(&[Some(one), Some(other)], &[1.0, 1.0]).unwrap().is_none());
    }
}
