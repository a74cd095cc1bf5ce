//! Prepares a graph for quantization: batch norms become part of the convolutions before them, and
//! a ReLU after max pooling moves before it.
//!
//! An integer convolution can then include both, and its output needs no negative values.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::graph::{Graph, float_tensor};
use super::proto::NodeProto;

/// Operator of a node.
pub fn operator(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or_default()
}

/// An input of a node; empty if it is absent.
pub fn input(node: &NodeProto, index: usize) -> &str {
    node.input.get(index).map_or("", String::as_str)
}

/// The output of a node.
pub fn output(node: &NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}

/// Folds every batch norm that alone reads a convolution, and moves every ReLU that alone reads a
/// max pooling. Tensors keep their names; a convolution without bias gets one.
///
/// # Errors
/// A tensor that is missing.
pub fn fold(mut graph: Graph) -> Result<Graph> {
    let mut folded = HashSet::new();
    let mut removed = HashSet::new();
    for number in 0..graph.nodes.len() {
        let Some((convolution, norm)) = pair(&graph, number, "Conv", "BatchNormalization") else { continue };
        let bias = fold_norm(&mut graph, &convolution, &norm, &mut folded)?;
        if let Some(node) = graph.nodes.get_mut(number) {
            node.input.truncate(2);
            node.input.push(bias);
        }
        graph.rename_value(output(&norm), output(&convolution));
        removed.insert(norm.name);
    }
    graph.nodes.retain(|node| !removed.contains(&node.name));
    for number in 0..graph.nodes.len() {
        if let Some((pooling, relu)) = pair(&graph, number, "MaxPool", "Relu") {
            swap(&mut graph, number, &pooling, &relu);
        }
    }
    graph.remove_unused_tensors();
    Ok(graph)
}

/// Node `number` and the node that alone reads it, if they have these operators.
fn pair(graph: &Graph, number: usize, first: &str, second: &str) -> Option<(NodeProto, NodeProto)> {
    let node = graph.nodes.get(number).filter(|node| operator(node) == first)?;
    let [consumer] = graph.consumers(output(node))[..] else { return None };
    let consumer = graph.nodes.get(consumer).filter(|node| operator(node) == second)?;
    Some((node.clone(), consumer.clone()))
}

/// Multiplies the weight of `convolution` by the factors of `norm`, once for all nodes that share
/// it, and returns the name of the new bias.
fn fold_norm(
    graph: &mut Graph,
    convolution: &NodeProto,
    norm: &NodeProto,
    folded: &mut HashSet<String>,
) -> Result<String> {
    let weight = input(convolution, 1).to_owned();
    let layer = weight.strip_suffix(".weight").unwrap_or(&weight);
    let bias = match input(convolution, 2) {
        "" => format!("{layer}.bias"),
        bias => bias.to_owned(),
    };
    if !folded.insert(weight.clone()) {
        return Ok(bias);
    }
    let epsilon = norm.attribute.iter().find_map(|attribute| attribute.f).context("a batch norm has no epsilon")?;
    let dims = graph.tensor(&weight).with_context(|| format!("there is no tensor {weight}"))?.dims.clone();
    let mut values = graph.floats(&weight)?;
    let [scale, offset, mean, variance] =
        [1, 2, 3, 4].map(|index| graph.floats(input(norm, index)).map_err(|error| error.context("a batch norm")));
    let (scale, offset, mean, variance) = (scale?, offset?, mean?, variance?);
    let own_bias = if input(convolution, 2).is_empty() { vec![0.0; scale.len()] } else { graph.floats(&bias)? };
    let per_filter = values.len() / scale.len().max(1);
    let statistics = scale.iter().zip(&offset).zip(mean.iter().zip(&variance)).zip(&own_bias);
    let mut new_bias = Vec::new();
    for (filter, (((scale, offset), (mean, variance)), bias)) in values.chunks_mut(per_filter.max(1)).zip(statistics) {
        let factor = f64::from(*scale) / (f64::from(*variance) + f64::from(epsilon)).sqrt();
        filter.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
        new_bias.push(((f64::from(*bias) - f64::from(*mean)) * factor + f64::from(*offset)) as f32);
    }
    graph.set_tensor(&weight, float_tensor(&dims, &values));
    graph.set_tensor(&bias, float_tensor(&[new_bias.len() as i64], &new_bias));
    Ok(bias)
}

/// Exchanges node `number`, a max pooling, with the ReLU that reads it. They commute, because ReLU
/// is monotone.
fn swap(graph: &mut Graph, number: usize, pooling: &NodeProto, relu: &NodeProto) {
    let (pooled, activated) = (output(pooling).to_owned(), output(relu).to_owned());
    for node in &mut graph.nodes {
        node.input.iter_mut().filter(|input| **input == activated).for_each(|input| pooled.clone_into(input));
    }
    let position = graph.nodes.iter().position(|node| node.name == relu.name);
    if let Some(node) = position.and_then(|position| graph.nodes.get_mut(position)) {
        *node = NodeProto { input: vec![activated], ..pooling.clone() };
    }
    if let Some(node) = graph.nodes.get_mut(number) {
        *node = NodeProto { input: pooling.input.clone(), ..relu.clone() };
    }
}
