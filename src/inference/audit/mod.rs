//! `grimace data audit`: duplicates, probable label errors and images without contrast or a face.

mod duplicates;
mod faces;
mod labels;
mod review;

use std::path::PathBuf;

use anyhow::Result;
use face_detect::Detector;
use rayon::prelude::*;
use serde::Serialize;

use crate::data::check::{Split, splits};
use crate::data::images::{Images, PIXELS};
use crate::util::stats::mean_and_deviation;

pub use duplicates::SplitDuplicates;
pub use faces::MIN_FACE_SCORE;
pub use labels::{LabelReport, Probabilities};
pub use review::review_csv;

/// Standard deviation of the pixels (0 to 255) below which an image has low contrast. FER2013 has 15
/// such images in 32,298, 12 of them blank.
pub const MIN_CONTRAST: f64 = 10.0;

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Its label is probably wrong.
    LabelError,
    /// The same image is in another split.
    ExactAcrossSplits,
    /// Nearly the same image is in another split.
    NearAcrossSplits,
    /// The same image is in the split with another label.
    ConflictingLabels,
    /// The same image is in the split.
    ExactDuplicate,
    /// Nearly the same image is in the split.
    NearDuplicate,
    /// No face is found in it.
    NoFace,
    /// All pixels are equal.
    Blank,
    /// The pixels are nearly equal.
    LowContrast,
}

impl Problem {
    /// In words, as in `review.csv`.
    pub fn describe(self) -> &'static str {
        match self {
            Self::LabelError => "label error",
            Self::ExactAcrossSplits => "exact duplicate across splits",
            Self::NearAcrossSplits => "near duplicate across splits",
            Self::ConflictingLabels => "conflicting labels",
            Self::ExactDuplicate => "exact duplicate",
            Self::NearDuplicate => "near duplicate",
            Self::NoFace => "no face",
            Self::Blank => "blank",
            Self::LowContrast => "low contrast",
        }
    }
}

/// An image of a file: number of the file, and position among its images.
pub type Place = (usize, usize);

/// A problem of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// The image.
    pub place: Place,
    /// What is wrong.
    pub problem: Problem,
    /// Number of the group of duplicates, from 1.
    pub group: Option<usize>,
    /// The class that it probably has.
    pub suggested: Option<u8>,
    /// Of a label error the probability of the suggested class minus that of the label, of duplicates
    /// their correlation, of no face the score of the best one, 0 to 1, of low contrast the standard
    /// deviation of the pixels.
    pub score: f64,
    /// Whether it is proposed to leave the row out of training.
    pub exclude: bool,
}

impl Finding {
    /// Orders findings of a kind: the larger, the surer.
    fn surety(&self) -> f64 {
        match self.problem {
            Problem::NoFace | Problem::Blank | Problem::LowContrast => -self.score,
            _ => self.score,
        }
    }
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct AuditOptions<'a> {
    /// With it, images without a face are looked for.
    pub detector: Option<&'a Detector>,
    /// Correlation from which images are near duplicates.
    pub min_correlation: f32,
    /// Standard deviation below which an image has low contrast.
    pub min_contrast: f64,
    /// Whether to propose to leave out probable label errors.
    pub propose_labels: bool,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// Number of images.
    pub images: usize,
    /// Number of images in which no face is found, without those of a single gray value; absent without
    /// a detector.
    pub without_face: Option<usize>,
    /// Number of images of a single gray value.
    pub blank: usize,
    /// Number of other images of low contrast.
    pub low_contrast: usize,
    /// Rows whose image is an exact copy of another row's, but for the first of each.
    pub exact_duplicates: usize,
    /// Distinct images that are near duplicates of others, but for the first of each group.
    pub near_duplicates: usize,
    /// Groups of exact and near duplicates.
    pub groups: usize,
    /// Duplicates between each pair of splits.
    pub across_splits: Vec<SplitDuplicates>,
    /// The labels; absent without predictions.
    pub labels: Option<LabelReport>,
    /// Rows that are proposed to be left out.
    pub proposed: usize,
    /// The findings; of one kind and group the surest first.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// Audits files whose images have been read; with `probabilities`, their labels too.
///
/// # Errors
/// An image in a packed file that cannot be read.
pub fn audit(
    files: &[(PathBuf, Images)],
    probabilities: Option<&Probabilities>,
    options: AuditOptions<'_>,
) -> Result<Audit> {
    let splits = splits(files);
    let mut findings = contrast(files, options.min_contrast)?;
    if let Some(detector) = options.detector {
        findings.extend(faces::without_face(files, detector)?);
    }
    let found = duplicates::find(files, &splits, options.min_correlation)?;
    findings.extend(found.findings);
    let labels = probabilities.map(|probabilities| {
        let (report, errors) = labels::check(files, probabilities, options.propose_labels);
        findings.extend(errors);
        report
    });
    findings.sort_by(|a, b| {
        let by_surety = b.surety().total_cmp(&a.surety());
        (a.problem, a.group).cmp(&(b.problem, b.group)).then(by_surety).then(a.place.cmp(&b.place))
    });
    let count = |problem| findings.iter().filter(|finding| finding.problem == problem).count();
    let mut proposed: Vec<Place> = findings.iter().filter(|found| found.exclude).map(|found| found.place).collect();
    proposed.sort_unstable();
    proposed.dedup();
    Ok(Audit {
        images: files.iter().map(|(_, images)| images.len()).sum(),
        without_face: options.detector.map(|_| count(Problem::NoFace)),
        blank: count(Problem::Blank),
        low_contrast: count(Problem::LowContrast),
        exact_duplicates: found.exact,
        near_duplicates: found.near,
        groups: found.groups,
        across_splits: found.across,
        labels,
        proposed: proposed.len(),
        findings,
    })
}

/// Images without contrast.
fn contrast(files: &[(PathBuf, Images)], min_contrast: f64) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (file, (_, images)) in files.iter().enumerate() {
        let check = |position: usize| -> Result<Option<Finding>> {
            let pixels = images.image(position)?;
            let values: Vec<f64> = pixels.iter().map(|pixel| f64::from(*pixel)).collect();
            let (_, deviation) = mean_and_deviation(&values);
            let is_blank = pixels.len() == PIXELS && pixels.iter().all(|pixel| Some(pixel) == pixels.first());
            let problem = if is_blank { Problem::Blank } else { Problem::LowContrast };
            let finding = Finding {
                place: (file, position),
                problem,
                group: None,
                suggested: None,
                score: deviation,
                exclude: is_blank,
            };
            Ok((is_blank || deviation < min_contrast).then_some(finding))
        };
        let found: Vec<Option<Finding>> = (0..images.len()).into_par_iter().map(check).collect::<Result<_>>()?;
        findings.extend(found.into_iter().flatten());
    }
    Ok(findings)
}

/// The number of the split of each image of each file.
fn split_numbers(files: &[(PathBuf, Images)], splits: &[Split]) -> Vec<Vec<usize>> {
    let mut numbers: Vec<Vec<usize>> = files.iter().map(|(_, images)| vec![0; images.len()]).collect();
    for (number, split) in splits.iter().enumerate() {
        for position in &split.positions {
            if let Some(slot) = numbers.get_mut(split.file).and_then(|of_file| of_file.get_mut(*position)) {
                *slot = number;
            }
        }
    }
    numbers
}
