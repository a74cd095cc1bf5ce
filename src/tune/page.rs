//! Fills [`StudyReport`], the HTML report of a study.

use anyhow::Result;
use toml::Value;

use super::confirmation::{Confirmation, Mean};
use super::domain::{Domain, plain};
use super::history::Trial;
use super::importance::explained;
use super::journal::JournalLock;
use super::outputs;
use super::plan::StudyOptions;
use super::study::StudyResult;
use super::study_dir::trial_name;
use crate::data::config::describe_split;
use crate::report::html::{Fact, StudyReport};
use crate::report::plot::{Coordinate, Measured, Standing, TrialLine};
use crate::report::text_table::thousands;
use crate::util::text::count;

/// The key that names the variant of a table.
const KIND: &str = "kind";

/// How importance is computed.
const METHOD: &str = "How much of the variance of the scores at the first rung each key explains alone: epsilon squared, over \
                      the options of a choice or up to four groups of equal size of a number. Two keys that matter only \
                      together are not seen, and with few trials the shares are rough.";

/// Writes `report.html` and its plots.
///
/// # Errors
/// An I/O error with the path, or a plot that cannot be rasterized.
pub fn write(result: &StudyResult, options: &StudyOptions, _lock: &JournalLock) -> Result<()> {
    let rows = outputs::rows(result);
    let (head, rows) = rows.split_first().map_or((Vec::new(), &[][..]), |(head, rows)| (head.clone(), rows));
    let best = result.best.map(trial_name);
    let rows = rows.iter().map(|cells| {
        let name = cells.first();
        let has_report = name.is_some_and(|name| result.dir.file(name).join("report.html").is_file());
        (cells.clone(), has_report, name == best.as_ref())
    });
    let metric = options.metric.monitor().name();
    StudyReport {
        folder: result.dir.path(),
        result: describe(result, metric),
        caveats: &caveats(result),
        facts: facts(result),
        metric,
        confirmation: result.confirmation.as_ref().map(|confirmation| confirmation_table(result, confirmation)),
        scores: scores(result),
        coordinates: coordinates(result, metric),
        importance: importance(result),
        importance_method: METHOD,
        head,
        rows: rows.collect(),
        provenance: provenance(result, options),
    }
    .write()
}

fn describe(result: &StudyResult, metric: &str) -> String {
    let Some((best, score)) = result.best_trial().and_then(|trial| Some((trial, trial.score()?))) else {
        return "All trials failed.".to_owned();
    };
    let name = trial_name(best.number);
    let reference = result.reference().filter(|reference| reference.number != best.number);
    let reference =
        reference.and_then(|trial| Some((trial, trial.score()?))).map_or(String::new(), |(trial, score)| {
            format!(" The config itself, {}, has {score:.4}.", trial_name(trial.number))
        });
    let trials = count(result.trials.len(), "trial");
    let text = format!("The best of {trials} is {name}: {metric} {score:.4}.{reference}");
    match &result.confirmation {
        None => text,
        Some(Confirmation { best, seeds, difference: None, .. }) => {
            format!(
                "{text} It is the base config itself, which has {} over {} fresh seeds.",
                best.describe(),
                seeds.len()
            )
        }
        Some(Confirmation { best, base, seeds, .. }) => format!(
            "{text} Over {} fresh seeds, its config has {}, the base config {}.",
            seeds.len(),
            best.describe(),
            base.describe()
        ),
    }
}

fn caveats(result: &StudyResult) -> Vec<String> {
    if result.best.is_none() {
        let errors = result.results.iter().filter_map(|record| Some((record.trial, record.error.as_ref()?)));
        return errors.map(|(trial, error)| format!("{}: {error}", trial_name(trial))).collect();
    }
    let optimism = match &result.confirmation {
        None => {
            "The best score selected its trial, so it is optimistic; --confirm K trains the config with K fresh seeds."
                .to_owned()
        }
        Some(found) => match found.optimism {
            Some(optimism) => {
                format!("The score of the search minus the mean of fresh seeds of the same config is {optimism:+.4}.")
            }
            None => "All runs of the best config with fresh seeds failed.".to_owned(),
        },
    };
    let failures = result.confirmation.iter().flat_map(|found| &found.failures);
    let failures = failures.map(|failure| format!("Failed, and not part of the means: {failure}"));
    let data = &result.plan.base.data;
    let same_images = "All scores, those of fresh seeds too, are on the validation images that selected the config and the \
                       epochs. An unbiased accuracy needs test images.";
    let caveats = [optimism, same_images.to_owned(), describe_split(data, result.plan.base.seed)];
    failures.chain(caveats).collect()
}

fn facts(result: &StudyResult) -> Vec<Fact> {
    let count = |state: &str| result.trials.iter().filter(|trial| outputs::state(result, trial) == state).count();
    let full = u64::from(result.plan.base.train.epochs) * result.trials.len() as u64;
    let rungs: Vec<String> = result.plan.ladder.epochs().iter().map(u32::to_string).collect();
    [
        ("trials", result.trials.len().to_string()),
        ("trained to the end", count("full").to_string()),
        ("stopped early", count("stopped").to_string()),
        ("failed", count("failed").to_string()),
        ("rungs (epochs)", rungs.join(", ")),
        ("epochs trained", thousands(result.epochs() as usize)),
        ("without halving", thousands(full as usize)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn confirmation_table(result: &StudyResult, found: &Confirmation) -> (Vec<String>, Vec<Vec<String>>) {
    let seeds = found.seeds.iter().map(|seed| format!("seed {seed}"));
    let head = ["config", "mean", "95% CI"].map(str::to_owned).into_iter().chain(seeds).collect();
    let row = |name: &str, mean: &Mean| -> Vec<String> {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let ends = mean.mean.zip(mean.half_width);
        let interval = ends.map(|(mean, half)| format!("{:.4} to {:.4}", mean - half, mean + half));
        let cells = [name.to_owned(), cell(mean.mean), interval.unwrap_or_else(|| "-".to_owned())];
        cells.into_iter().chain(mean.values.iter().map(|value| cell(*value))).collect()
    };
    let mut rows = vec![row("best", &found.best)];
    if let Some(difference) = &found.difference {
        rows.extend([row("base", &found.base), row("best minus base", difference)]);
    }
    if let Some(score) = result.best_trial().and_then(Trial::score) {
        rows.push(vec!["best, in the search".to_owned(), format!("{score:.4}"), "-".to_owned()]);
    }
    (head, rows)
}

/// Each score with the epochs of all trials until then.
fn scores(result: &StudyResult) -> Vec<Measured> {
    let mut trained = vec![0u32; result.trials.len()];
    let mut epochs = 0.0;
    let mut found = Vec::new();
    for record in &result.results {
        if let Some(before) = trained.get_mut(record.trial) {
            epochs += f64::from(record.epochs.saturating_sub(*before));
            *before = record.epochs.max(*before);
        }
        let is_full = record.rung == result.plan.ladder.top();
        found.extend(record.score.map(|score| Measured { epochs, score, is_full }));
    }
    found
}

fn coordinates(result: &StudyResult, metric: &str) -> (Vec<Coordinate>, Vec<TrialLine>) {
    let succeeded: Vec<(&Trial, f64)> =
        result.trials.iter().filter_map(|trial| Some((trial, trial.score()?))).collect();
    let ends = succeeded
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, score)| (low.min(*score), high.max(*score)));
    let span = (ends.1 - ends.0).max(f64::MIN_POSITIVE);
    let parameters = &result.plan.space.parameters;
    let mut axes: Vec<Coordinate> = parameters
        .iter()
        .map(|parameter| Coordinate { name: parameter.key.clone(), labels: labels(&parameter.domain) })
        .collect();
    let at = |part: f64| (part, format!("{:.3}", ends.0 + part * span));
    let score_labels = if succeeded.is_empty() { Vec::new() } else { [0.0, 0.25, 0.5, 0.75, 1.0].map(at).to_vec() };
    axes.push(Coordinate { name: metric.to_owned(), labels: score_labels });
    let line = |(trial, score): &(&Trial, f64)| {
        let values = parameters.iter().zip(&trial.values);
        let positions = values.map(|(parameter, value)| parameter.domain.position(value).unwrap_or(f64::NAN));
        let standing = match outputs::state(result, trial) {
            _ if result.best == Some(trial.number) => Standing::Best,
            "full" => Standing::Full,
            _ => Standing::Stopped,
        };
        TrialLine { positions: positions.chain([(score - ends.0) / span]).collect(), standing }
    };
    let lines = succeeded.iter().map(line).collect();
    (axes, lines)
}

/// Labels of a domain's axis: every option, or up to five numbers.
fn labels(domain: &Domain) -> Vec<(f64, String)> {
    // An integer is in the middle of its part of the axis.
    let nearest = |position: f64| match domain {
        Domain::Int { .. } => domain.position(&domain.value(position)),
        _ => Some(position),
    };
    let mut positions: Vec<f64> = match domain {
        Domain::Choice(_) => domain.checked_values().iter().filter_map(|value| domain.position(value)).collect(),
        _ => [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().filter_map(nearest).collect(),
    };
    positions.dedup();
    let label = |position: f64| {
        let value = domain.value(position);
        let text = match value.as_float() {
            Some(number) if domain.is_logarithmic() => format!("{number:.1e}"),
            Some(number) => format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            None => option_label(&value, domain),
        };
        (position, text)
    };
    positions.into_iter().map(label).collect()
}

/// An option as a label. Of a table, only what tells it from the others, since space is scarce.
fn option_label(value: &Value, domain: &Domain) -> String {
    let (Some(table), Domain::Choice(options)) = (value.as_table(), domain) else { return plain(value) };
    let differs = |key: &&String| options.iter().any(|other| other.get(key) != table.get(*key));
    let keys = table.keys().filter(|key| *key == KIND).chain(table.keys().filter(|key| *key != KIND));
    let entry = |key: &String| match table.get(key).map(plain).unwrap_or_default() {
        value if key == KIND => value,
        value => format!("{key} {value}"),
    };
    let entries: Vec<String> = keys.filter(differs).map(entry).collect();
    if entries.is_empty() { plain(value) } else { entries.join(", ") }
}

/// Each key with the share of the variance at the first rung that it explains, the largest first.
fn importance(result: &StudyResult) -> Vec<(String, Option<f64>)> {
    let at_first = |trial: &Trial| trial.results.first().and_then(|first| first.score);
    let trials: Vec<(&Trial, f64)> = result.trials.iter().filter_map(|trial| Some((trial, at_first(trial)?))).collect();
    let scores: Vec<f64> = trials.iter().map(|(_, score)| *score).collect();
    let parameters = result.plan.space.parameters.iter().enumerate();
    let share = |(index, parameter): (usize, &super::space::Parameter)| {
        let position = |(trial, _): &(&Trial, f64)| parameter.domain.position(trial.values.get(index)?);
        let positions: Vec<f64> = trials.iter().filter_map(position).collect();
        (parameter.key.clone(), explained(&positions, &scores, parameter.domain.options()))
    };
    let mut shares: Vec<(String, Option<f64>)> = parameters.map(share).collect();
    shares.sort_by(|a, b| b.1.unwrap_or(-1.0).total_cmp(&a.1.unwrap_or(-1.0)));
    shares
}

fn provenance(result: &StudyResult, options: &StudyOptions) -> Vec<Fact> {
    [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("sampler", options.sampler.name().to_owned()),
        ("seed of the search", options.seed.to_string()),
        ("seed of the trainings", result.plan.base.seed.to_string()),
        ("command", options.command.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_integers_are_where_lines_cross_the_axis() {
        let texts = |domain: &Domain| labels(domain).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        let steps = Domain::Int { low: 16, high: 64, step: 16, log: false };
        assert_eq!(texts(&steps), ["16", "32", "48", "64"]);
        assert_eq!(labels(&steps)[3].0, steps.position(&toml::Value::Integer(64)).unwrap());
        assert_eq!(texts(&Domain::Uniform { low: 0.0, high: 0.5 }), ["0", "0.125", "0.25", "0.375", "0.5"]);
        let tables =
            [r#"{ kind = "sgd", lr = 0.05 }"#, r#"{ lr = 0.02, kind = "sgd" }"#, r#"{ kind = "adam", lr = 0.02 }"#];
        let tables = tables.map(|text| format!("x = {text}").parse::<toml::Table>().unwrap()["x"].clone());
        let some = Domain::Choice(tables[..2].to_vec());
        assert_eq!(texts(&some), ["lr 0.05", "lr 0.02"]);
        assert_eq!(texts(&Domain::Choice(tables.to_vec())), ["sgd, lr 0.05", "sgd, lr 0.02", "adam, lr 0.02"]);
        assert_eq!(texts(&Domain::Choice(vec![true.into(), "a".into()])), ["true", "a"]);
        assert_eq!(texts(&Domain::Int { low: 0, high: 1, step: 1, log: false }), ["0", "1"]);
    }
}
