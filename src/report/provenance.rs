//! Where the results of a run come from.

use super::page::Figure;

/// Where figures come from, for the report.
pub fn provenance_figures(
    versions: &[(&str, &String)],
    seed: u64,
    (data_hash, split_hash): (&str, &str),
    command: &str,
) -> Vec<Figure> {
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
    let mut figures: Vec<Figure> =
        versions.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    figures.push(("seed".to_owned(), seed.to_string()));
    figures.push(("faces (hash)".to_owned(), short(data_hash)));
    figures.push(("split (hash)".to_owned(), short(split_hash)));
    figures.push(("command".to_owned(), command.to_owned()));
    figures
}
