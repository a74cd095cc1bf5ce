//! `forest.safetensors`: a checksummed container, fully validated on read, so that traversing a
//! tree always ends at a leaf.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::Forest;
use super::config::ForestConfig;
use super::tree::{LEAF, Tree, TreeNode};
use crate::config;
use crate::data::images::PIXELS;
use crate::util::container::{Format, LoadError, TensorData, Verified, recovery_advice};
use crate::util::error::input;
use crate::util::files::write_atomically;

const FORMAT: Format = Format { name: "grimace-forest", version: "2", description: "a fitted forest" };

/// Maximum bytes of a forest: about 300 million nodes.
const MAX_BYTES: u64 = 1 << 31;

/// The data a forest was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash of the images and labels.
    pub data_hash: String,
    /// Hash of `split.csv`.
    pub split_hash: String,
}

/// Writes a forest and its resolved config atomically.
///
/// # Errors
/// A forest of more than 2 GiB; an I/O error with the path.
pub fn save(path: &Path, forest: &Forest, config: &str, origin: &Origin) -> Result<()> {
    let bytes = to_bytes(forest, config, origin)?;
    let display = path.display();
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{display}: the forest has {} bytes, more than the {MAX_BYTES} that can be loaded; fit fewer trees",
        bytes.len()
    );
    write_atomically(path, &bytes)
}

/// Loads and validates a forest, with its config and the data it was fitted on.
///
/// # Errors
/// An input error with the path for a file that is missing, corrupt or not a forest of this
/// version.
pub fn load(path: &Path) -> Result<(Forest, ForestConfig, Origin)> {
    let read = || from_bytes(&FORMAT.read(path, |_| MAX_BYTES)?).map_err(LoadError::Unusable);
    read().map_err(|error| match error {
        LoadError::Open(error) => error,
        LoadError::Unusable(error) => {
            let display = path.display();
            input(format!("{display}: not a usable forest: {error:#}; {}", recovery_advice(&error, "fit it again")))
        }
    })
}

/// Serializes a forest.
///
/// # Errors
/// A config too large for the header of a safetensors file (100 MB).
pub fn to_bytes(forest: &Forest, config: &str, origin: &Origin) -> Result<Vec<u8>> {
    let nodes = || forest.trees.iter().flat_map(Tree::nodes);
    let leaves = |tree: &Tree| tree.counts().len() / forest.classes;
    let part = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| TensorData {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    let sizes = |of: &dyn Fn(&Tree) -> usize| -> Vec<u8> {
        forest.trees.iter().flat_map(|tree| (of(tree) as u32).to_le_bytes()).collect()
    };
    let (trees, count) = (forest.trees.len(), forest.nodes());
    let rows: usize = forest.trees.iter().map(leaves).sum();
    let counts = forest.trees.iter().flat_map(Tree::counts).flat_map(|count| count.to_le_bytes()).collect();
    let importance = bytemuck::cast_slice::<f64, u8>(&forest.importance).to_vec();
    let parts = vec![
        part("tree.nodes", Dtype::U32, &[trees], sizes(&|tree| tree.nodes().len())),
        part("tree.leaves", Dtype::U32, &[trees], sizes(&leaves)),
        part("node.next", Dtype::U32, &[count], nodes().flat_map(|node| node.next.to_le_bytes()).collect()),
        part("node.feature", Dtype::U16, &[count], nodes().flat_map(|node| node.feature.to_le_bytes()).collect()),
        part("node.threshold", Dtype::U8, &[count], nodes().map(|node| node.threshold).collect()),
        part("leaf.counts", Dtype::U32, &[rows, forest.classes], counts),
        part("importance", Dtype::F64, &[forest.importance.len()], importance),
    ];
    let metadata = HashMap::from([
        ("config".to_owned(), config.to_owned()),
        ("origin".to_owned(), serde_json::to_string(origin)?),
    ]);
    FORMAT.serialize(metadata, parts)
}

/// Deserializes and validates a forest.
///
/// # Errors
/// What is wrong with the file.
pub fn from_bytes(bytes: &[u8]) -> Result<(Forest, ForestConfig, Origin)> {
    let opened = FORMAT.verify(bytes)?;
    let config: ForestConfig = config::from_text(opened.text("config")?, "its config")?;
    let origin = serde_json::from_str(opened.text("origin")?).context("cannot parse its origin")?;
    let classes = config.data.classes.len();
    let importance = read::<f64>(&opened, "importance", Dtype::F64, 1)?;
    ensure!(importance.len() == PIXELS, "it has {} features; images have {PIXELS}", importance.len());
    ensure!(importance.iter().all(|value| (0.0..=1.0).contains(value)), "its importances are not between 0 and 1");
    let sizes = read::<u32>(&opened, "tree.nodes", Dtype::U32, 1)?;
    let leaves = read::<u32>(&opened, "tree.leaves", Dtype::U32, 1)?;
    ensure!(!sizes.is_empty() && sizes.len() == leaves.len(), "it has no trees, or its parts disagree about them");
    let next = read::<u32>(&opened, "node.next", Dtype::U32, 1)?;
    let feature = read::<u16>(&opened, "node.feature", Dtype::U16, 1)?;
    let threshold = read::<u8>(&opened, "node.threshold", Dtype::U8, 1)?;
    ensure!(next.len() == feature.len() && next.len() == threshold.len(), "the tensors of its nodes differ in length");
    let nodes: Vec<TreeNode> = next
        .into_iter()
        .zip(feature)
        .zip(threshold)
        .map(|((next, feature), threshold)| TreeNode { next, feature, threshold })
        .collect();
    let counts = read::<u32>(&opened, "leaf.counts", Dtype::U32, classes)?;
    let (mut nodes, mut counts) = (&nodes[..], &counts[..]);
    let mut trees = Vec::with_capacity(sizes.len());
    for (number, (size, leaves)) in sizes.into_iter().zip(leaves).enumerate() {
        let (size, values) = (size as usize, leaves as usize * classes);
        let missing = || anyhow!("tree {} is incomplete", number + 1);
        let (own_nodes, rest) = nodes.split_at_checked(size).ok_or_else(missing)?;
        let (own_counts, other) = counts.split_at_checked(values).ok_or_else(missing)?;
        (nodes, counts) = (rest, other);
        check(own_nodes, own_counts, classes).with_context(|| format!("tree {}", number + 1))?;
        trees.push(Tree::from_parts(own_nodes.to_vec(), own_counts.to_vec(), classes));
    }
    ensure!(nodes.is_empty() && counts.is_empty(), "it has nodes that belong to no tree");
    Ok((Forest { trees, classes, importance }, config, origin))
}

/// The values of a tensor of this kind, whose rows have `width` values each.
fn read<V: bytemuck::AnyBitPattern>(opened: &Verified<'_>, name: &str, dtype: Dtype, width: usize) -> Result<Vec<V>> {
    let found = opened.tensors.iter().find(|(other, _)| other == name);
    let view: &TensorView<'_> = found.map(|(_, view)| view).with_context(|| format!("it has no tensor {name}"))?;
    let row: usize = view.shape().iter().skip(1).product();
    ensure!(
        view.dtype() == dtype && row == width && !view.shape().is_empty(),
        "tensor {name} is {:?} {:?}, expected {dtype:?} with {width} in a row",
        view.dtype(),
        view.shape()
    );
    Ok(view.data().chunks_exact(size_of::<V>()).map(bytemuck::pod_read_unaligned).collect())
}

/// Checks that every path through a tree ends at a leaf with counts.
fn check(nodes: &[TreeNode], counts: &[u32], classes: usize) -> Result<()> {
    ensure!(!nodes.is_empty(), "has no nodes");
    let leaves = counts.len() / classes;
    for (index, node) in nodes.iter().enumerate() {
        let next = node.next as usize;
        let holds = match node.feature {
            LEAF => next < leaves,
            // Children come after their parents, so there are no cycles.
            feature => usize::from(feature) < PIXELS && next > index && next + 1 < nodes.len(),
        };
        ensure!(holds, "node {index}: the child or leaf index is invalid");
    }
    let weight = |row: &[u32]| row.iter().copied().map(u64::from).sum::<u64>();
    ensure!(counts.chunks(classes).all(|row| weight(row) > 0), "has a leaf without counts");
    Ok(())
}
