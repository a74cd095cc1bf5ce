//! `grimace data audit`

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;

use super::common::{
    ClassArgs, check_run_output, check_standard_input, merge_label_maps, own_command, print, print_json,
};
use crate::data::advice::Advice;
use crate::data::config::{DataConfig, OnBadRow};
use crate::data::images::Images;
use crate::data::label_map::LabelNames;
use crate::data::near_duplicates::MIN_CORRELATION;
use crate::data::photos::open_detector;
use crate::data::read;
use crate::data::read_options::{LabelPolicy, ReadOptions};
use crate::device::DeviceChoice;
use crate::inference::audit::{
    Audit, AuditOptions, MIN_CONTRAST, MIN_FACE_SCORE, Probabilities, Problem, audit, review_csv,
};
use crate::inference::out_of_fold::OutOfFold;
use crate::inference::trained_run::TrainedRun;
use crate::report::Console;
use crate::report::html::{AuditPage, AuditSheet, Fact};
use crate::report::plot::{Mistake, sheet};
use crate::report::text_table::{table, thousands};
use crate::util::error::{Outcome, input};
use crate::util::files::{Output, OutputRules, exists, input_name};

/// Images of a contact sheet.
const MAX_SHOWN: usize = 100;

/// `grimace data audit`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grimace data audit data/my_emotion_train.csv data/my_emotion_test.csv --faces --out audit\n  grimace train configs/notebook.toml --folds 5 --out runs/folds\n  grimace data audit data/my_emotion_train.csv --folds runs/folds --out audit-labels\n  grimace train configs/notebook.toml --set data.exclude=audit/review.csv\n\nWrites report.html and review.csv to --out: file,row,id,label,suggested,reason,score,group,exclude. Rows with a 1 in exclude are proposals; edit them, and pass the file as data.exclude."
)]
pub struct DataAuditArgs {
    /// CSV files, folders of images and packed files; training images first
    #[arg(required = true, value_name = "DATA")]
    pub data: Vec<PathBuf>,
    /// Check labels with the out-of-fold predictions in this directory, of grimace train --folds on this data
    #[arg(long, value_name = "DIR")]
    pub folds: Option<PathBuf>,
    /// Check labels with the predictions of this run, for images that it was not trained on
    #[arg(long, value_name = "RUN", conflicts_with = "folds")]
    pub run: Option<PathBuf>,
    /// Folder to write report.html and review.csv to; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,
    /// Classes and labels [default: those of --folds or --run]
    #[command(flatten)]
    pub classes: ClassArgs,
    /// Correlation from which two images are near duplicates
    #[arg(long, value_name = "R", default_value_t = MIN_CORRELATION, value_parser = correlation)]
    pub min_correlation: f32,
    /// Standard deviation of the pixels, 0 to 255, below which an image has low contrast
    #[arg(long, value_name = "GRAY", default_value_t = MIN_CONTRAST)]
    pub min_contrast: f64,
    /// Look for images without a face, with the detector of grimace predict --faces detect
    #[arg(long)]
    pub faces: bool,
    /// Propose to leave out probable label errors too
    #[arg(long)]
    pub propose_labels: bool,
    /// Device: auto, cpu, cuda:N or mps
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn correlation(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.5..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0.5, below 1".to_owned()),
    }
}

/// Where predictions come from.
enum Source {
    Folds(Box<OutOfFold>, PathBuf),
    Run(Box<TrainedRun>),
}

impl Source {
    fn open(args: &DataAuditArgs) -> Result<Option<Self>> {
        Ok(match (&args.folds, &args.run) {
            (Some(path), _) => Some(Self::Folds(Box::new(OutOfFold::open(path)?), path.clone())),
            (None, Some(path)) => Some(Self::Run(Box::new(TrainedRun::open(path)?))),
            (None, None) => None,
        })
    }

    fn data(&self) -> Option<&DataConfig> {
        match self {
            Self::Folds(found, _) => found.folds.first().map(|fold| &fold.run.config.data),
            Self::Run(run) => Some(run.data()),
        }
    }
}

pub fn run(args: &DataAuditArgs) -> Result<Outcome> {
    let paths: Vec<&Path> = args.data.iter().map(AsRef::as_ref).collect();
    check_standard_input(&paths)?;
    let [page_out, review_out] = check_outputs(args, &paths)?;
    let detector = args.faces.then(open_detector).transpose()?;
    let source = Source::open(args)?;
    let (classes, label_names) = classes(args, source.as_ref(), &paths)?;
    let files = read_files(args, &classes, &label_names)?;
    let start = Instant::now();
    let probabilities = match &source {
        Some(Source::Folds(found, path)) => Some(Probabilities::of_folds(found, classes.len(), &files, path)?),
        Some(Source::Run(run)) => Some(Probabilities::of_run(run, &files, args.device)?),
        None => None,
    };
    let options = AuditOptions {
        detector: detector.as_ref(),
        min_correlation: args.min_correlation,
        min_contrast: args.min_contrast,
        propose_labels: args.propose_labels,
    };
    let found = audit(&files, probabilities.as_ref(), options)?;
    let seconds = start.elapsed().as_secs_f64();
    warnings(&found).iter().try_for_each(|warning| Console::default().line(&format!("warning: {warning}")))?;
    review_out.write(&review_csv(&files, &found.findings, &classes)?)?;
    page_out.write(page(args, &files, &found, &classes)?.as_bytes())?;
    if args.json {
        print_json(&json!({"audit": found, "seconds": seconds, "out": args.out.to_string_lossy()}))?;
    } else {
        let written = format!("\nreport: {page_out}\nto review: {review_out}\n");
        print(&(describe(&found, &classes) + &written))?;
    }
    Ok(Outcome::Done)
}

/// Checks the two files in the folder `--out`, and creates the folder.
fn check_outputs(args: &DataAuditArgs, inputs: &[&Path]) -> Result<[Output; 2]> {
    let out = &args.out;
    if exists(out) && !out.is_dir() {
        return Err(anyhow!("{}: is not a folder; expected an output folder", out.display()));
    }
    fs_err::create_dir_all(out)?;
    let rules = OutputRules { inputs, force: args.force, ..OutputRules::default() };
    let runs: Vec<PathBuf> = args.run.iter().cloned().collect();
    let check = |name: &str| check_run_output(&out.join(name), &runs, rules);
    Ok([check("report.html")?, check("review.csv")?])
}

fn classes(args: &DataAuditArgs, source: Option<&Source>, paths: &[&Path]) -> Result<(Vec<String>, LabelNames)> {
    let Some(data) = source.and_then(Source::data) else { return args.classes.resolve(paths) };
    if args.classes.classes.is_some() {
        return Err(input("--classes: the classes are those of --folds or --run; omit it, or use --label-map"));
    }
    Ok((data.classes.clone(), merge_label_maps(&data.labels, &args.classes.label_map, &data.classes)?))
}

fn read_files(args: &DataAuditArgs, classes: &[String], names: &LabelNames) -> Result<Vec<(PathBuf, Images)>> {
    let options = ReadOptions {
        label_names: names,
        on_bad_row: OnBadRow::Skip,
        advice: Advice::CommandLine,
        ..ReadOptions::new(classes, LabelPolicy::Optional)
    };
    let read_file = |path: &PathBuf| {
        let images = read::read(path, options)?;
        if let Some(skipped) = images.skipped.describe() {
            Console::default().line(&format!("{}: {skipped}", input_name(path).display()))?;
        }
        Ok((path.clone(), images))
    };
    args.data.iter().map(read_file).collect()
}

/// What makes the result mean less.
fn warnings(found: &Audit) -> Vec<String> {
    let Some(labels) = &found.labels else { return Vec::new() };
    let mut warnings = Vec::new();
    if labels.trained_on > 0 {
        warnings.push(format!(
            "the run was trained on {} of the labeled images; their labels are not checked: use --folds",
            thousands(labels.trained_on)
        ));
    }
    if labels.unknown > 0 {
        warnings.push(format!(
            "{} labeled images have no prediction; their labels are not checked",
            thousands(labels.unknown)
        ));
    }
    warnings
}

/// Names and numbers of findings.
fn facts(found: &Audit) -> Vec<Fact> {
    let mut facts = vec![
        ("images", found.images),
        ("exact duplicates of another row", found.exact_duplicates),
        ("near duplicates of another image", found.near_duplicates),
        ("groups of duplicates", found.groups),
        ("blank images", found.blank),
        ("images of low contrast", found.low_contrast),
    ];
    if let Some(count) = found.without_face {
        facts.push(("images without a face", count));
    }
    if let Some(labels) = &found.labels {
        facts.extend([("labels checked", labels.checked), ("probable label errors", labels.errors)]);
    }
    facts.push(("rows proposed to be left out", found.proposed));
    facts.into_iter().map(|(name, count)| (name.to_owned(), thousands(count))).collect()
}

const ACROSS: [&str; 4] = ["first", "second", "exact", "near"];

fn across_rows(found: &Audit) -> Vec<Vec<String>> {
    let row = |across: &crate::inference::audit::SplitDuplicates| {
        vec![across.from.clone(), across.to.clone(), thousands(across.exact), thousands(across.near)]
    };
    found.across_splits.iter().map(row).collect()
}

fn describe(found: &Audit, classes: &[String]) -> String {
    let mut text = table(&facts(found).into_iter().map(|(name, count)| vec![name, count]).collect::<Vec<_>>());
    if !found.across_splits.is_empty() {
        text += "\nduplicates across splits: rows of the second whose image is also in the first, exactly or nearly\n";
        let rows: Vec<Vec<String>> =
            std::iter::once(ACROSS.map(String::from).to_vec()).chain(across_rows(found)).collect();
        text += &table(&rows);
    }
    let Some(labels) = &found.labels else { return text };
    let name = |class: u8| classes.get(usize::from(class)).cloned().unwrap_or_default();
    let mut pairs: Vec<_> = labels.by_class.iter().collect();
    pairs.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    text += "\nprobable label errors, the most frequent\n";
    let header = ["label", "suggested", "images"].map(String::from).to_vec();
    let rows =
        pairs.iter().take(10).map(|((label, other), count)| vec![name(*label), name(*other), thousands(**count)]);
    text + &table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn page(args: &DataAuditArgs, files: &[(PathBuf, Images)], found: &Audit, classes: &[String]) -> Result<String> {
    let mut caveats = warnings(found);
    if found.labels.is_some() {
        caveats.push(
            "A probable label error is one that the networks confidently disagree with: look at it before you trust \
             either. Ambiguous expressions are among them."
                .to_owned(),
        );
    }
    let errors = found
        .labels
        .as_ref()
        .map_or(String::new(), |labels| format!(", {} probable label errors", thousands(labels.errors)));
    let data: Vec<String> = args.data.iter().map(|path| input_name(path).display().to_string()).collect();
    let provenance =
        [("data", data.join(", ")), ("Grimace", env!("CARGO_PKG_VERSION").to_owned()), ("command", own_command()?)];
    let page = AuditPage {
        result: format!(
            "{} images: {} exact and {} near duplicates{errors}",
            thousands(found.images),
            thousands(found.exact_duplicates),
            thousands(found.near_duplicates)
        ),
        caveats: &caveats,
        facts: facts(found),
        head: ACROSS.map(String::from).to_vec(),
        rows: across_rows(found),
        sheets: sheets(files, found, classes)?,
        provenance: provenance.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    };
    Ok(page.to_html())
}

/// Titles of the contact sheets, and the findings on each.
const SHEETS: [(&str, &[Problem]); 6] = [
    ("Probable label errors", &[Problem::LabelError]),
    ("Images in several splits", &[Problem::ExactAcrossSplits, Problem::NearAcrossSplits]),
    ("Duplicates with conflicting labels", &[Problem::ConflictingLabels]),
    ("Duplicates within a split", &[Problem::NearDuplicate, Problem::ExactDuplicate]),
    ("Images without a face", &[Problem::NoFace]),
    ("Images without contrast", &[Problem::Blank, Problem::LowContrast]),
];

fn sheets(files: &[(PathBuf, Images)], found: &Audit, classes: &[String]) -> Result<Vec<AuditSheet>> {
    let mut sheets = Vec::new();
    for (title, problems) in SHEETS {
        let all: Vec<_> = found.findings.iter().filter(|finding| problems.contains(&finding.problem)).collect();
        let mut cells = Vec::new();
        for finding in all.iter().take(MAX_SHOWN) {
            let (file, position) = finding.place;
            let Some((_, images)) = files.get(file) else { continue };
            let class = |class: Option<u8>| class.and_then(|class| classes.get(usize::from(class)).cloned());
            let label = class(images.labels.as_ref().and_then(|labels| labels.get(position).copied()));
            let row = images.rows.get(position).copied().unwrap_or_default();
            let second = match (class(finding.suggested), finding.group) {
                (Some(suggested), _) => suggested,
                (None, Some(group)) => format!("#{group}, {row}"),
                (None, None) => format!("row {row}"),
            };
            let has_score = matches!(finding.problem, Problem::LabelError | Problem::NoFace);
            let score = if has_score { finding.score } else { f64::NAN };
            cells.push((images.image(position)?, label.unwrap_or_else(|| "no label".to_owned()), second, score));
        }
        if cells.is_empty() {
            continue;
        }
        let shown: Vec<Mistake<'_>> = cells
            .iter()
            .map(|(image, label, second, score)| Mistake { image, label, predicted: second, confidence: *score })
            .collect();
        let second = match problems {
            [Problem::LabelError] => "the suggested class, and how much more probable it is".to_owned(),
            [Problem::NoFace] => {
                format!("its row, and the score of the best face; {:.0}% are a find", 100.0 * MIN_FACE_SCORE)
            }
            [Problem::Blank, _] => "its row".to_owned(),
            _ => "the number of its group of duplicates, and its row".to_owned(),
        };
        let caption = format!("The first {} of {}.", thousands(shown.len()), thousands(all.len()));
        let heading = format!("Bold: the label. Below it: {second}.");
        sheets.push(AuditSheet { title: title.to_owned(), caption, png: sheet(&heading, &shown)?.png });
    }
    Ok(sheets)
}
