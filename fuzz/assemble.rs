//! Builds containers, checkpoints and forests from short texts, with valid checksums, so that the
//! fuzzer reaches the code behind the checksum.

use std::collections::{BTreeMap, HashMap};

use grimace::config::{self, Config};
use grimace::data::images::PIXELS;
use grimace::forest::config::ForestConfig;
use grimace::model::Net;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::Tensor;

use super::{is_small, network};

/// Placeholder for the checksum in the header of a container.
const CHECKSUM: &str = "CHECKSUM";

/// Builds a container with a valid checksum from its JSON header, a line break and the bytes of its
/// tensors.
pub fn container_from_text(text: &[u8]) -> Vec<u8> {
    let mut parts = text.splitn(2, |byte| *byte == b'\n');
    let header = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let tensors = parts.next().unwrap_or_default();
    let with_checksum = |sum: &str| {
        let header = header.replace(CHECKSUM, sum);
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
    };
    let unsigned = with_checksum(&"0".repeat(64));
    let Ok((_, header)) = SafeTensors::read_metadata(&unsigned) else { return unsigned };
    let Ok(file) = SafeTensors::deserialize(&unsigned) else { return unsigned };
    let mut views = file.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let views = views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data()));
    with_checksum(&checksum(header.metadata().as_ref().unwrap_or(&HashMap::new()), views))
}

/// Maximum bytes of a tensor in a checkpoint.
const MAX_TENSOR: usize = 1 << 20;

/// Builds a checkpoint from four parts separated by lines `---`: the config, the state in JSON, a
/// line per tensor, and bytes that fill the tensors cyclically. The line `*` adds all tensors of
/// the config's network, `-NAME` removes one, `NAME F32 2 3` adds one.
pub fn checkpoint_from_text(text: &str) -> Vec<u8> {
    let mut parts = text.splitn(4, "\n---\n");
    let mut part = || parts.next().unwrap_or_default();
    let (config, state, lines, fill) = (part(), part(), part(), part());
    let mut shapes = BTreeMap::new();
    for line in lines.lines() {
        if line == "*" {
            shapes.extend(network_tensors(config));
        } else if let Some(name) = line.strip_prefix('-') {
            shapes.remove(name);
        } else if let Some((name, dtype, shape)) = parse_tensor(line) {
            shapes.insert(name, (dtype, shape));
        }
    }
    let fill = if fill.is_empty() { b"\0" } else { fill.as_bytes() };
    let tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .filter_map(|(name, (dtype, shape))| {
            let values = shape.iter().try_fold(1usize, |count, edge| count.checked_mul(*edge))?;
            let size = values.checked_mul(dtype.bitsize())?.div_ceil(8);
            let bytes = fill.iter().copied().cycle().take(size.min(MAX_TENSOR)).collect();
            (size <= MAX_TENSOR).then_some((name, dtype, shape, bytes))
        })
        .collect();
    let mut metadata: HashMap<String, String> =
        [("format", "grimace-checkpoint"), ("format_version", "3"), ("config", config), ("state", state)]
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into();
    let sum = checksum(&metadata, tensors.iter().map(|(name, _, shape, bytes)| (name.as_str(), &**shape, &**bytes)));
    metadata.insert("checksum".into(), sum);
    let views = tensors.iter().filter_map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).ok().map(|view| (name.as_str(), view))
    });
    safetensors::serialize(views, Some(metadata)).unwrap_or_default()
}

/// The tensors of a config's network, if it is small.
fn network_tensors(config: &str) -> Vec<(String, (Dtype, Vec<usize>))> {
    let net = config::from_text::<Config>(config, "").ok().filter(is_small).map(|config| network(&config));
    let shape = |tensor: &Tensor| tensor.size().into_iter().map(|edge| edge.unsigned_abs() as usize).collect();
    net.iter().flat_map(Net::named_tensors).map(|named| (named.name, (Dtype::F32, shape(&named.tensor)))).collect()
}

/// Builds a forest from three parts separated by lines `---`: the config, the training data's
/// description in JSON, and a line per tree. A tree is its nodes, `|`, and its leaf counts. `F<T:N`
/// is a split of feature F at threshold T with left child N; `*N` is a leaf with row N of the
/// counts.
pub fn forest_from_text(text: &str) -> Vec<u8> {
    let mut parts = text.splitn(3, "\n---\n");
    let mut part = || parts.next().unwrap_or_default();
    let (config, origin, lines) = (part(), part(), part());
    let classes = config::from_text::<ForestConfig>(config, "").map_or(7, |config| config.data.classes.len());
    let (mut nodes, mut leaves, mut next, mut feature, mut threshold, mut counts) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for line in lines.lines() {
        let (tree, leaf_counts) = line.split_once('|').unwrap_or((line, ""));
        let start = threshold.len();
        for word in tree.split_whitespace() {
            let split = word.split_once('<').and_then(|(f, rest)| Some((f, rest.split_once(':')?)));
            let (f, t, n) = match split {
                Some((f, (t, n))) => (f.parse().unwrap_or(0), t.parse().unwrap_or(0), n),
                None => (u16::MAX, 0u8, word.trim_start_matches('*')),
            };
            next.extend(n.parse().unwrap_or(0u32).to_le_bytes());
            feature.extend(f.to_le_bytes());
            threshold.push(t);
        }
        nodes.extend(((threshold.len() - start) as u32).to_le_bytes());
        let row: Vec<u32> = leaf_counts.split_whitespace().map(|count| count.parse().unwrap_or(0)).collect();
        leaves.extend(((row.len() / classes) as u32).to_le_bytes());
        counts.extend(row.iter().take(row.len() / classes * classes).flat_map(|count| count.to_le_bytes()));
    }
    let count = threshold.len();
    let importance = vec![0; PIXELS * 8];
    let shapes = [vec![nodes.len() / 4], vec![count], vec![counts.len() / 4 / classes, classes], vec![PIXELS]];
    let [trees, each, table, pixels] = &shapes;
    let mut tensors = [
        ("tree.nodes", Dtype::U32, trees, &nodes),
        ("tree.leaves", Dtype::U32, trees, &leaves),
        ("node.next", Dtype::U32, each, &next),
        ("node.feature", Dtype::U16, each, &feature),
        ("node.threshold", Dtype::U8, each, &threshold),
        ("leaf.counts", Dtype::U32, table, &counts),
        ("importance", Dtype::F64, pixels, &importance),
    ];
    tensors.sort_by_key(|(name, ..)| *name);
    let mut metadata: HashMap<String, String> =
        [("format", "grimace-forest"), ("format_version", "2"), ("config", config), ("origin", origin)]
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into();
    let sum = checksum(&metadata, tensors.iter().map(|(name, _, shape, bytes)| (*name, &***shape, &***bytes)));
    metadata.insert("checksum".into(), sum);
    let views = tensors.iter().filter_map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, (*shape).clone(), bytes).ok().map(|view| (*name, view))
    });
    safetensors::serialize(views, Some(metadata)).unwrap_or_default()
}

/// Parses name, dtype and shape of a tensor: `NAME F32 2 3`.
fn parse_tensor(line: &str) -> Option<(String, Dtype, Vec<usize>)> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let dtype = match words.next()? {
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        "BF16" => Dtype::BF16,
        "U8" => Dtype::U8,
        "F4" => Dtype::F4,
        _ => return None,
    };
    Some((name, dtype, words.map(str::parse).collect::<Result<_, _>>().ok()?))
}

/// The checksum of src/util/container.rs, implemented a second time.
fn checksum<'a>(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    for (key, text) in metadata.iter().filter(|(key, _)| *key != "checksum").collect::<BTreeMap<_, _>>() {
        add(key.as_bytes());
        add(text.as_bytes());
    }
    for (name, shape, bytes) in tensors {
        add(name.as_bytes());
        add(&shape.iter().flat_map(|edge| (*edge as u64).to_le_bytes()).collect::<Vec<_>>());
        add(bytes);
    }
    hasher.finalize().to_hex().to_string()
}
