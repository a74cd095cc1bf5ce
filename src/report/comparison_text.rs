//! The comparison of two models as plain text.

use super::text_table::{table, thousands};
use crate::metrics::paired_bootstrap::PairedDifference;
use crate::metrics::{ClassComparison, Evaluation, McNemar, PairedComparison, accuracy_cell};
use crate::util::text::count;

/// A signed difference with its interval, as `+0.0260 (+0.0109 to +0.0412)`.
fn difference_cell(value: f64, low: f64, high: f64) -> String {
    format!("{value:+.4} ({low:+.4} to {high:+.4})")
}

/// A p-value with four digits.
pub fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// Whether the accuracies differ, in a sentence: by the interval of the paired bootstrap. `A` is the
/// first model.
pub fn verdict(paired: &PairedComparison) -> String {
    let found = &paired.accuracy;
    let better = if found.difference > 0.0 { "B is more accurate than A" } else { "A is more accurate than B" };
    let significant = found.low > 0.0 || found.high < 0.0;
    let numbers = numbers(found, &paired.mcnemar);
    if significant {
        format!("{better}: {numbers}.")
    } else {
        format!("No significant difference in accuracy: {numbers}.")
    }
}

/// The same without duplicates of training images, if there are any.
pub fn dedup_verdict(paired: &PairedComparison) -> Option<String> {
    let dedup = paired.dedup.as_ref()?;
    let duplicates = count(paired.rows - dedup.accuracy.rows, "duplicate");
    let numbers = numbers(&dedup.accuracy, &dedup.mcnemar);
    Some(format!("Without {duplicates} of training images: {numbers}."))
}

fn numbers(found: &PairedDifference, mcnemar: &McNemar) -> String {
    let points = |value: f64| format!("{:+.2}", 100.0 * value);
    format!(
        "{} points, 95% CI {} to {}, McNemar p {}",
        points(found.difference),
        points(found.low),
        points(found.high),
        p_equation(mcnemar.p),
    )
}

fn p_equation(p: f64) -> String {
    if p < 0.0001 { p_value(p) } else { format!("= {}", p_value(p)) }
}

/// What the test counted, and its result: a sentence each.
pub fn describe_mcnemar(found: &McNemar) -> [String; 2] {
    let counts = format!(
        "Both are correct on {} images, only A on {}, only B on {}, neither on {}.",
        thousands(found.both_correct),
        thousands(found.only_first),
        thousands(found.only_second),
        thousands(found.both_wrong),
    );
    let test = format!(
        "McNemar's test of the {} images on which only one is correct: p {} ({}).",
        thousands(found.discordant()),
        p_equation(found.p),
        found.describe_method(),
    );
    [counts, test]
}

/// How the numbers were computed: a sentence each.
pub fn method(paired: &PairedComparison) -> [String; 2] {
    let resamples = thousands(paired.resamples as usize);
    let intervals = format!(
        "Intervals are of 95%: Wilson's for one run, for differences a paired bootstrap over the images ({resamples} resamples, \
         seed {}).",
        paired.seed
    );
    [intervals, "They cover the choice of images, not other seeds of training.".to_owned()]
}

/// Rows of the metrics: name, first, second, difference.
pub fn metric_rows([a, b]: &[Evaluation; 2], paired: &PairedComparison) -> Vec<[String; 4]> {
    let difference = &paired.accuracy;
    let mut rows = vec![[
        "accuracy".to_owned(),
        accuracy_cell(Some(a.accuracy), a.accuracy_interval),
        accuracy_cell(Some(b.accuracy), b.accuracy_interval),
        difference_cell(difference.difference, difference.low, difference.high),
    ]];
    if let Some(dedup) = &paired.dedup {
        let found = &dedup.accuracy;
        rows.push([
            "deduplicated".to_owned(),
            accuracy_cell(a.accuracy_dedup, a.accuracy_dedup_interval),
            accuracy_cell(b.accuracy_dedup, b.accuracy_dedup_interval),
            difference_cell(found.difference, found.low, found.high),
        ]);
    }
    let plain = |name: &str, a: Option<f64>, b: Option<f64>| {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let difference = a.zip(b).map_or("-".to_owned(), |(a, b)| format!("{:+.4}", b - a));
        [name.to_owned(), number(a), number(b), difference]
    };
    if a.top2_accuracy.is_some() {
        let [name, .., difference] = plain("top-2 accuracy", a.top2_accuracy, b.top2_accuracy);
        let cell = |e: &Evaluation| accuracy_cell(e.top2_accuracy, e.top2_accuracy_interval);
        rows.push([name, cell(a), cell(b), difference]);
    }
    let with_interval = |[name, first, second, _]: [String; 4], (value, low, high): (f64, f64, f64)| {
        [name, first, second, difference_cell(value, low, high)]
    };
    let (f1, loss) = (&paired.macro_f1, &paired.loss);
    rows.push(with_interval(plain("macro F1", Some(a.macro_f1), Some(b.macro_f1)), (f1.difference, f1.low, f1.high)));
    rows.push(plain("macro AUC", a.macro_auc, b.macro_auc));
    rows.push(with_interval(plain("loss", Some(a.loss), Some(b.loss)), (loss.difference, loss.low, loss.high)));
    rows.push(plain("ECE", Some(a.ece), Some(b.ece)));
    rows
}

/// Header of [`class_rows`].
pub const CLASS_HEADER: [&str; 7] = ["class", "images", "recall of A", "recall of B", "difference", "p", "p (Holm)"];

/// Rows of the classes: name, images, both recalls, difference, p and adjusted p.
pub fn class_rows(classes: &[ClassComparison]) -> Vec<[String; 7]> {
    let row = |class: &ClassComparison| {
        let recall = |value: Option<f64>, interval: Option<(f64, f64)>| {
            let interval = interval.map_or(String::new(), |(low, high)| format!(" ({low:.2} to {high:.2})"));
            value.map_or("-".to_owned(), |value| format!("{value:.3}{interval}"))
        };
        let has_images = class.rows > 0;
        let p = |p: f64| if has_images { p_value(p) } else { "-".to_owned() };
        [
            class.class.clone(),
            thousands(class.rows),
            recall(class.first, class.first_interval),
            recall(class.second, class.second_interval),
            class.difference.map_or("-".to_owned(), |found| {
                format!("{:+.3} ({:+.3} to {:+.3})", found.difference, found.low, found.high)
            }),
            p(class.mcnemar.p),
            p(class.p_adjusted),
        ]
    };
    classes.iter().map(row).collect()
}

/// The comparison of A, the first of `names`, with B on `images`.
pub fn describe(
    [first, second]: &[String; 2],
    images: &str,
    evaluations: &[Evaluation; 2],
    paired: &PairedComparison,
) -> String {
    let mut text = format!("A: {first}\nB: {second}\non {} images: {images}\n\n", thousands(paired.rows));
    text += &format!("{}\n", verdict(paired));
    text += &dedup_verdict(paired).map_or(String::new(), |verdict| format!("{verdict}\n"));
    let rows = metric_rows(evaluations, paired).into_iter().map(Vec::from).collect();
    let header = ["", "A", "B", "B - A"].map(String::from).to_vec();
    text += &format!("\n{}\n", table(&[vec![header], rows].concat()));
    text += &format!(
        "{}\nThe runs predict the same class for {:.1}% of the images.\n\n",
        describe_mcnemar(&paired.mcnemar).join("\n"),
        100.0 * paired.agreement
    );
    let header = CLASS_HEADER.map(String::from).to_vec();
    let rows = class_rows(&paired.per_class).into_iter().map(Vec::from).collect();
    text += &table(&[vec![header], rows].concat());
    text + &format!("\n{}\n", method(paired).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Predictions;

    /// A model of two classes that is right on the images that `is_right` selects.
    fn evaluated(rows: usize, is_right: impl Fn(usize) -> bool) -> (Predictions, Vec<u8>) {
        let labels: Vec<u8> = (0..rows).map(|row| (row % 2) as u8).collect();
        let logits = labels.iter().enumerate().flat_map(|(row, label)| {
            let first = (*label == 0) == is_right(row);
            [f32::from(u8::from(first)), f32::from(u8::from(!first))]
        });
        let logits: Vec<f32> = logits.collect();
        let raw = Predictions { probabilities: logits.clone(), logits, classes: 2 };
        (raw.with_temperature(0.5), labels)
    }

    fn described(first: impl Fn(usize) -> bool, second: impl Fn(usize) -> bool, seen: usize) -> String {
        let rows = 400;
        let ((a, labels), (b, _)) = (evaluated(rows, first), evaluated(rows, second));
        let classes = ["sad", "happy"].map(String::from);
        let duplicates: Vec<bool> = (0..rows).map(|row| row < seen).collect();
        let evaluations = [&a, &b].map(|found| Evaluation::new(found, &labels, &duplicates, &classes));
        let paired = PairedComparison::new([&a, &b], &labels, &duplicates, &classes, 1).unwrap();
        describe(&["runs/a".to_owned(), "runs/b".to_owned()], "x.csv", &evaluations, &paired)
    }

    #[test]
    fn the_verdict_comes_first_and_names_the_better_run() {
        let better = described(|row| row < 240, |row| row < 300, 0);
        assert!(better.contains("B is more accurate than A: +15.00 points, 95% CI +11"), "{better}");
        assert!(better.contains("McNemar p < 0.0001") && better.contains("chi-squared with continuity correction"));
        assert!(better.contains("accuracy   0.6000 (") && !better.contains("top-2"), "{better}");
        let worse = described(|row| row < 300, |row| row < 240, 0);
        assert!(worse.contains("A is more accurate than B: -15.00 points"), "{worse}");
        let equal = described(|row| row < 300, |row| row < 299 || row == 399, 100);
        assert!(equal.contains("No significant difference in accuracy: +0.00 points"), "{equal}");
        assert!(equal.contains("exact binomial") && equal.contains("McNemar p = 1.0000"), "{equal}");
        assert!(equal.contains("Without 100 duplicates of training images: +0.00 points"), "{equal}");
        assert!(equal.contains("deduplicated"), "{equal}");
    }
}
