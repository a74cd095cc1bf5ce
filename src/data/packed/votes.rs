//! The soft labels of a packed file.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use super::format::Kind;
use super::reader::PackedFile;
use crate::data::label_map::{LabelMap, LabelTarget};
use crate::util::error::input;
use crate::util::text::short;

/// The soft labels of a packed file.
#[derive(Debug)]
pub struct PackedVotes {
    /// Name of the file, for messages.
    pub name: String,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// The row of each image.
    pub rows: Vec<u32>,
    /// The id of each image, if there are ids.
    pub ids: Option<Vec<String>>,
    /// float32 [N, classes], row-major, in 0..1; zeros for an image without a vote.
    pub weights: Vec<f32>,
}

/// Reads the soft labels of a packed file.
///
/// # Errors
/// Input errors: those of [`PackedFile::open`], a section that is corrupt, a file without soft labels.
pub fn read_votes(path: &Path) -> Result<PackedVotes> {
    let packed = PackedFile::open(path)?;
    let Some(bytes) = packed.section(Kind::Votes)? else {
        return Err(input(format!(
            "{}: has no soft labels; pack it again with --soft-labels CSV, or set data.soft_labels to a CSV",
            packed.name()
        )));
    };
    let weights: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if !weights.iter().all(|weight| (0.0..=1.0).contains(weight)) {
        return Err(packed.corrupt("a soft label is not in 0 to 1"));
    }
    let (name, classes) = (packed.name().to_owned(), packed.classes().to_vec());
    Ok(PackedVotes { name, classes, rows: packed.rows()?, ids: packed.ids()?, weights })
}

impl PackedVotes {
    /// The weights of each image over the classes of `map`, by its id or else by its row; `None` for an
    /// image without a vote for any. The names of the packed classes are labels, as the names of
    /// columns of a CSV are.
    ///
    /// # Errors
    /// Input errors: a class that no packed class belongs to, a duplicate id.
    pub fn by_key(self, map: &LabelMap) -> Result<HashMap<String, Option<Vec<f32>>>> {
        let targets: Vec<Option<usize>> = self
            .classes
            .iter()
            .map(|class| match map.resolve(class) {
                Some(LabelTarget::Class(class)) => Some(usize::from(class)),
                _ => None,
            })
            .collect();
        let missing = map.classes().iter().enumerate().find(|(class, _)| !targets.contains(&Some(*class)));
        if let Some((_, class)) = missing {
            let packed = short(&self.classes.join(", "), 200);
            return Err(input(format!(
                "{}: its soft labels are of the classes {packed}, not of {class}; set data.labels = {{ NAME = {class:?} \
                 }} with one of these, or remove the class",
                self.name
            )));
        }
        let keys = match self.ids {
            Some(ids) => ids,
            None => self.rows.iter().map(u32::to_string).collect(),
        };
        let mut rows = HashMap::with_capacity(keys.len());
        for (key, row) in keys.into_iter().zip(self.weights.chunks(self.classes.len().max(1))) {
            let weights = normalized(row, &targets, map.classes().len());
            if rows.contains_key(&key) {
                return Err(input(format!("{}: duplicate id {:?}", self.name, short(&key, 40))));
            }
            rows.insert(key, weights);
        }
        Ok(rows)
    }
}

/// The weights of `row` over `classes` classes, to which its values go; `None` if all are 0.
fn normalized(row: &[f32], targets: &[Option<usize>], classes: usize) -> Option<Vec<f32>> {
    let mut votes = vec![0.0; classes];
    for (target, weight) in targets.iter().zip(row) {
        if let Some(vote) = target.and_then(|class| votes.get_mut(class)) {
            *vote += f64::from(*weight);
        }
    }
    let sum: f64 = votes.iter().sum();
    if sum <= 0.0 {
        return None;
    }
    // Weights of the same classes are taken as they are: a division would round them again.
    let is_same = targets.iter().copied().eq((0..classes).map(Some));
    Some(if is_same { row.to_vec() } else { votes.iter().map(|vote| (vote / sum) as f32).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::label_map::LabelNames;

    #[test]
    fn packed_classes_are_mapped_merged_and_left_out() {
        let votes = |ids: Option<[&str; 2]>| PackedVotes {
            name: "x.faces".into(),
            classes: ["happy", "sad", "odd"].map(String::from).to_vec(),
            rows: vec![0, 3],
            ids: ids.map(|ids| ids.map(String::from).to_vec()),
            weights: vec![0.1, 0.3, 0.6, 0.0, 0.0, 0.0],
        };
        let map = |classes: &[&str], names: &str| {
            let names = if names.is_empty() { LabelNames::Classes } else { LabelNames::parse(names).unwrap() };
            LabelMap::new(&classes.iter().map(|class| (*class).to_owned()).collect::<Vec<_>>(), &names)
        };
        let same = votes(None).by_key(&map(&["happy", "sad", "odd"], "")).unwrap();
        assert_eq!((&same["0"], &same["3"]), (&Some(vec![0.1, 0.3, 0.6]), &None));
        let two = votes(Some(["a", "b"])).by_key(&map(&["sadness", "happiness"], "")).unwrap();
        assert_eq!((&two["a"], &two["b"]), (&Some(vec![0.75, 0.25]), &None), "without odd, in another order");
        let merged = votes(None).by_key(&map(&["good", "bad"], "happy=good,sad=bad,odd=bad")).unwrap();
        assert_eq!(merged["0"], Some(vec![0.1, 0.9]));
        let error = |votes: PackedVotes, map| votes.by_key(&map).unwrap_err().to_string();
        assert!(
            error(votes(None), map(&["happy", "fear"], "")).contains("happy, sad, odd, not of fear; set data.labels")
        );
        assert!(error(votes(Some(["a", "a"])), map(&["happy", "sad"], "")).contains("duplicate id \"a\""));
    }
}
