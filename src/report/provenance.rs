//! Facts about the provenance of a run's results.

use super::html::Fact;

/// Versions, seed, hashes (their first 16 digits) and command.
pub fn provenance_facts(
    versions: &[(&str, &String)],
    seed: u64,
    (data_hash, split_hash): (&str, &str),
    command: &str,
) -> Vec<Fact> {
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
    let mut facts: Vec<Fact> = versions.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    facts.push(("seed".to_owned(), seed.to_string()));
    facts.push(("images (hash)".to_owned(), short(data_hash)));
    facts.push(("split (hash)".to_owned(), short(split_hash)));
    facts.push(("command".to_owned(), command.to_owned()));
    facts
}
