//! Runs every fuzz target on its corpus in `fuzz/corpus` and on mutations of it with fixed seeds.
//! `scripts/fuzz.sh` fuzzes the same targets with libFuzzer, guided by coverage.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use grimace::util::rng::Rng;

#[path = "../../fuzz/targets.rs"]
mod targets;

#[test]
fn csv() {
    fuzz("csv", targets::csv, 600);
}

#[test]
fn archive() {
    fuzz("archive", targets::archive, 300);
}

#[test]
fn config() {
    fuzz("config", targets::config, 400);
}

#[test]
fn checkpoint() {
    fuzz("checkpoint", targets::checkpoint, 250);
}

#[test]
fn forest() {
    fuzz("forest", targets::forest, 1500);
}

#[test]
fn labels() {
    fuzz("labels", targets::labels, 800);
}

#[test]
fn packed() {
    fuzz("packed", targets::packed, 300);
}

#[test]
fn picture() {
    fuzz("picture", targets::picture, 300);
}

#[test]
fn soft_labels() {
    fuzz("soft_labels", targets::soft_labels, 800);
}

#[test]
fn weights() {
    fuzz("weights", targets::weights, 300);
}

/// Runs a target over its corpus, and over mutations of every file in it.
fn fuzz(name: &str, target: fn(&[u8]), mutations: u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut paths: Vec<PathBuf> =
        fs_err::read_dir(folder.join("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs_err::read(path).unwrap()).collect();
    assert!(!seeds.is_empty());
    let tokens = tokens(&folder.join("dictionaries").join(format!("{name}.dict")));
    for (number, (path, seed)) in paths.iter().zip(&seeds).enumerate() {
        run_target(target, seed, &path.display().to_string());
        for mutation in 0..mutations {
            let mut random = Rng::new(&[number as u64, mutation]);
            let input = mutated(seed, &seeds, &tokens, &mut random);
            run_target(target, &input, &format!("mutation {mutation} of {}", path.display()));
        }
    }
}

/// Runs a target on an input. If it panics, prints a command that writes the input to a file.
fn run_target(target: fn(&[u8]), input: &[u8], shown: &str) {
    if catch_unwind(|| target(input)).is_err() {
        panic!("{shown} fails. To write it to a file: printf '%b' '{}' >input", escaped(input));
    }
}

fn escaped(input: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" ,.:;=_@{}[]()".contains(&byte);
    let shown = |&byte: &u8| if plain(byte) { char::from(byte).to_string() } else { format!("\\0{byte:03o}") };
    input.iter().map(shown).collect()
}

/// The entries of a libFuzzer dictionary.
fn tokens(path: &Path) -> Vec<Vec<u8>> {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).map(unescaped).collect()
}

/// An entry of a dictionary as bytes: `\\`, `\"` and `\xAB` are one byte each.
fn unescaped(entry: &str) -> Vec<u8> {
    let mut parts = entry.split('\\');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    while let Some(part) = parts.next() {
        let hex = part.strip_prefix('x').and_then(|hex| hex.split_at_checked(2));
        match hex.and_then(|(hex, rest)| Some((u8::from_str_radix(hex, 16).ok()?, rest))) {
            Some((byte, rest)) => bytes.extend([&[byte], rest.as_bytes()].concat()),
            // An empty part between two backslashes is a literal backslash; the next part follows
            // it.
            None if part.is_empty() => bytes.extend([b"\\", parts.next().unwrap().as_bytes()].concat()),
            None => bytes.extend(part.bytes()),
        }
    }
    bytes
}

/// `seed` after one to four changes: a bit flipped, a byte replaced, a piece removed, doubled or
/// inserted from a dictionary, or the end of another seed.
fn mutated(seed: &[u8], seeds: &[Vec<u8>], tokens: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let mut below = |bound: usize| random.below(bound as u64) as usize;
        let at = below(bytes.len() + 1);
        let length = below(16) + 1;
        let piece: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
        let other = &seeds[below(seeds.len())];
        match below(6) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = below(256) as u8),
            2 => drop(bytes.drain(at..at + piece.len())),
            3 => drop(bytes.splice(at..at, piece)),
            4 => drop(bytes.splice(at..at, tokens[below(tokens.len())].iter().copied())),
            _ => bytes.splice(at.., other.iter().skip(below(other.len() + 1)).copied()).for_each(drop),
        }
    }
    bytes
}
