//! An ONNX graph under construction: nodes, weights and their names.

use std::collections::HashSet;

use anyhow::{Context, Result};
use prost::Message as _;

use super::proto::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Operator set: that of ONNX 1.12, which every current runtime reads.
pub const OPSET: i64 = 17;

/// Version of the format that belongs to the operator set.
const IR_VERSION: i64 = 8;

/// Name of the input, float32 [N, 1, 48, 48].
pub const INPUT: &str = "pixels";

/// Name of the output, float32 [N, classes].
pub const OUTPUT: &str = "probabilities";

/// Nodes in the order in which they run, and the tensors that they read.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    names: HashSet<String>,
}

impl Graph {
    /// Adds a node whose only output has the name of the node, and returns that name: `name`, or
    /// `name_2`, `name_3`, ... if it is taken.
    pub fn add(&mut self, operator: &str, name: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        let name = self.unused_name(name);
        self.nodes.push(node(operator, &name, inputs, attributes));
        name
    }

    /// Reserves and returns `name`, or `name_2`, `name_3`, ... if it is taken.
    pub fn unused_name(&mut self, name: &str) -> String {
        let mut unused = name.to_owned();
        let mut number = 2;
        while !self.names.insert(unused.clone()) {
            unused = format!("{name}_{number}");
            number += 1;
        }
        unused
    }

    /// Sets the tensor of this name.
    pub fn set_tensor(&mut self, name: &str, tensor: TensorProto) {
        self.names.insert(name.to_owned());
        let tensor = TensorProto { name: Some(name.to_owned()), ..tensor };
        match self.tensors.iter_mut().find(|own| own.name == tensor.name) {
            Some(own) => *own = tensor,
            None => self.tensors.push(tensor),
        }
    }

    /// The tensor of this name; `None` for a value that is computed.
    pub fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.tensors.iter().find(|tensor| tensor.name.as_deref() == Some(name))
    }

    /// The values of the float32 tensor of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name).filter(|tensor| tensor.data_type == Some(DataType::Float.into()));
        let bytes = tensor.and_then(|tensor| tensor.raw_data.as_deref());
        let bytes = bytes.with_context(|| format!("the graph has no float32 tensor {name}"))?;
        Ok(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// Numbers of the nodes that read `value`.
    pub fn consumers(&self, value: &str) -> Vec<usize> {
        let reads =
            |(number, node): (usize, &NodeProto)| node.input.iter().any(|input| input == value).then_some(number);
        self.nodes.iter().enumerate().filter_map(reads).collect()
    }

    /// Renames the value `from` everywhere.
    pub fn rename_value(&mut self, from: &str, to: &str) {
        let names = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        names.filter(|name| *name == from).for_each(|name| to.clone_into(name));
        self.names.insert(to.to_owned());
    }

    /// Removes the tensors that no node reads.
    pub fn remove_unused_tensors(&mut self) {
        let used: HashSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        self.tensors.retain(|tensor| tensor.name.as_ref().is_some_and(|name| used.contains(name)));
    }

    /// Encodes a model file: images float32 ["N", 1, side, side] to probabilities float32 ["N",
    /// classes], with `metadata`.
    pub fn encode(&self, side: i64, classes: i64, metadata: &[(&str, &str)]) -> Vec<u8> {
        let property = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        let graph = GraphProto {
            node: self.nodes.clone(),
            name: Some("grimace".to_owned()),
            initializer: self.tensors.clone(),
            input: vec![value_info(INPUT, &[1, side, side])],
            output: vec![value_info(OUTPUT, &[classes])],
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("grimace".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            metadata_props: metadata.iter().map(property).collect(),
        };
        model.encode_to_vec()
    }
}

/// A float32 value of shape ["N", ...sizes].
fn value_info(name: &str, sizes: &[i64]) -> ValueInfoProto {
    let batch = DimensionProto { dim_param: Some("N".to_owned()), dim_value: None };
    let fixed = sizes.iter().map(|size| DimensionProto { dim_value: Some(*size), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor = TensorTypeProto { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// A node with one output, which has its name.
pub fn node(operator: &str, name: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs,
        output: vec![name.to_owned()],
        name: Some(name.to_owned()),
        op_type: Some(operator.to_owned()),
        attribute: attributes,
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind.into()), ..AttributeProto::default() }
}

/// An attribute that is an integer.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// An attribute that is a float.
pub fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

/// An attribute that is a string.
pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

fn tensor(kind: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto { dims: dims.to_vec(), data_type: Some(kind.into()), name: None, raw_data: Some(bytes) }
}

/// A float32 tensor.
pub fn float_tensor(dims: &[i64], values: &[f32]) -> TensorProto {
    tensor(DataType::Float, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An int64 tensor of one dimension.
pub fn int64_tensor(values: &[i64]) -> TensorProto {
    tensor(DataType::Int64, &[values.len() as i64], values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An int32 tensor of one dimension.
pub fn int32_tensor(values: &[i32]) -> TensorProto {
    tensor(DataType::Int32, &[values.len() as i64], values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// An int8 tensor.
pub fn int8_tensor(dims: &[i64], values: &[i8]) -> TensorProto {
    tensor(DataType::Int8, dims, values.iter().map(|value| value.cast_unsigned()).collect())
}

/// A uint8 tensor without dimensions.
pub fn uint8_scalar(value: u8) -> TensorProto {
    tensor(DataType::Uint8, &[], vec![value])
}
