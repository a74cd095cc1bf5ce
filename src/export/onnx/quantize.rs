//! Quantization to int8 as QDQ: each quantized value passes through QuantizeLinear and
//! DequantizeLinear, which runtimes fuse with the operators between them into integer ones.
//!
//! Weights are int8, symmetric, with a scale per filter; activations uint8 with a scale and a zero
//! point per tensor; biases int32 (Jacob et al. 2018; Krishnamoorthi 2018).

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

use super::fold::{input, operator, output};
use super::graph::{Graph, float_tensor, int, int8_tensor, int32_tensor, node, uint8_scalar};
use super::proto::NodeProto;

/// Layers with fewer weights stay float32: they would save little and cost accuracy. These are the
/// first convolution, squeeze-and-excitation and most output layers.
const MIN_WEIGHTS: i64 = 4096;

/// Smallest scale of a filter, as a fraction of the largest one of its layer. Smaller scales would
/// make the bias overflow.
const MIN_SCALE: f32 = 1e-4;

/// Range of a value, and how uint8 represents it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Difference between neighboring values.
    pub scale: f32,
    /// The number that represents 0.
    pub zero_point: u8,
}

impl Range {
    /// The range from `min` to `max`, extended to include 0.
    pub fn new(min: f32, max: f32) -> Self {
        let (min, max) = (min.min(0.0), max.max(0.0));
        let scale = (max - min) / 255.0;
        if !(scale.is_normal() && scale.is_finite()) {
            return Self { scale: 1.0, zero_point: 0 };
        }
        Self { scale, zero_point: (-min / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

/// Whether `node` becomes an integer operation.
fn is_quantized(graph: &Graph, node: &NodeProto) -> bool {
    let weights = graph.tensor(input(node, 1)).map_or(0, |weight| weight.dims.iter().product());
    matches!(operator(node), "Conv" | "Gemm") && weights >= MIN_WEIGHTS
}

/// Number of layers that become integer operations.
pub fn quantized_layers(graph: &Graph) -> usize {
    graph.nodes.iter().filter(|node| is_quantized(graph, node)).count()
}

/// The values to quantize: inputs of the quantized layers; outputs of their convolutions, and of
/// dense layers with a ReLU. That is the ReLU's output, if nothing else reads the layer.
pub fn quantized_values(graph: &Graph) -> HashSet<String> {
    let mut values = HashSet::new();
    for node in graph.nodes.iter().filter(|node| is_quantized(graph, node)) {
        values.insert(input(node, 0).to_owned());
        let relu = match graph.consumers(output(node))[..] {
            [consumer] => graph.nodes.get(consumer).filter(|node| operator(node) == "Relu"),
            _ => None,
        };
        // Logits keep their precision.
        if operator(node) == "Conv" || relu.is_some() {
            values.insert(output(relu.unwrap_or(node)).to_owned());
        }
    }
    values
}

/// Where the range of `value` comes from: max pooling and flattening keep the range of their input,
/// if that is quantized too, so that they can run on integers.
pub fn range_source<'a>(graph: &'a Graph, values: &HashSet<String>, value: &'a str) -> &'a str {
    let producer = graph.nodes.iter().find(|node| output(node) == value);
    match producer.filter(|node| matches!(operator(node), "MaxPool" | "Flatten")) {
        Some(node) if values.contains(input(node, 0)) => range_source(graph, values, input(node, 0)),
        _ => value,
    }
}

/// Quantizes the layers of `graph`, with the `ranges` of [`quantized_values`].
///
/// # Errors
/// A range or a tensor that is missing.
pub fn quantize(mut graph: Graph, ranges: &HashMap<String, Range>) -> Result<Graph> {
    let originals = graph.clone();
    let nodes = std::mem::take(&mut graph.nodes);
    let mut quantizer = Quantizer { graph, replaced: HashMap::new(), weights: HashMap::new() };
    for mut node in nodes {
        let layer = is_quantized(&originals, &node);
        let range = ranges.get(input(&node, 0)).copied();
        for name in &mut node.input {
            if let Some(replacement) = quantizer.replaced.get(name) {
                replacement.clone_into(name);
            }
        }
        if layer {
            let range = range.with_context(|| format!("{} has not been calibrated", input(&node, 0)))?;
            quantizer.quantize_layer(&originals, &mut node, range)?;
        }
        let value = output(&node).to_owned();
        quantizer.graph.nodes.push(node);
        if let Some(range) = ranges.get(&value) {
            quantizer.quantize_value(&value, *range);
        }
    }
    quantizer.graph.remove_unused_tensors();
    Ok(quantizer.graph)
}

struct Quantizer {
    graph: Graph,
    /// Quantized and dequantized values by the names of the original ones.
    replaced: HashMap<String, String>,
    /// Dequantized weights, and the scales of their filters, by the names of the weights.
    weights: HashMap<String, (String, Vec<f32>)>,
}

impl Quantizer {
    fn quantize_value(&mut self, value: &str, range: Range) {
        let (scale, zero_point) = (format!("{value}.scale"), format!("{value}.zero_point"));
        self.graph.set_tensor(&scale, float_tensor(&[], &[range.scale]));
        self.graph.set_tensor(&zero_point, uint8_scalar(range.zero_point));
        let parameters = [scale, zero_point];
        let inputs = |value: String| std::iter::once(value).chain(parameters.iter().cloned()).collect();
        let quantized =
            self.graph.add("QuantizeLinear", &format!("{value}.quantized"), inputs(value.to_owned()), vec![]);
        let dequantized =
            self.graph.add("DequantizeLinear", &format!("{value}.dequantized"), inputs(quantized), vec![]);
        self.replaced.insert(value.to_owned(), dequantized);
    }

    /// Replaces weight and bias of a layer whose input has the range `range`.
    fn quantize_layer(&mut self, originals: &Graph, layer: &mut NodeProto, range: Range) -> Result<()> {
        let (weight, bias) = (input(layer, 1).to_owned(), input(layer, 2).to_owned());
        if !self.weights.contains_key(&weight) {
            let dequantized = self.quantize_weight(originals, &weight)?;
            self.weights.insert(weight.clone(), dequantized);
        }
        let (dequantized, scales) = self.weights.get(&weight).context("a weight is missing")?;
        if let Some(name) = layer.input.get_mut(1) {
            dequantized.clone_into(name);
        }
        if bias.is_empty() {
            return Ok(());
        }
        let scales: Vec<f32> = scales.iter().map(|scale| scale * range.scale).collect();
        let values = originals.floats(&bias)?;
        let steps = values.iter().zip(&scales).map(|(value, scale)| (f64::from(*value) / f64::from(*scale)).round());
        let steps: Vec<i32> = steps.map(|step| step as i32).collect();
        // The scale depends on the input, so each layer that shares a bias has its own.
        let layer_name = layer.name.clone().unwrap_or_default();
        let quantized = format!("{layer_name}.bias_quantized");
        let scale = format!("{layer_name}.bias_scale");
        self.graph.set_tensor(&quantized, int32_tensor(&steps));
        self.graph.set_tensor(&scale, float_tensor(&[scales.len() as i64], &scales));
        let name = self.dequantize(&format!("{layer_name}.bias_dequantized"), vec![quantized, scale]);
        if let Some(bias) = layer.input.get_mut(2) {
            *bias = name;
        }
        Ok(())
    }

    /// Replaces a weight [filters, ...] by int8 under its name, and adds its dequantization. Returns
    /// the name of that, and the scales.
    fn quantize_weight(&mut self, originals: &Graph, weight: &str) -> Result<(String, Vec<f32>)> {
        let dims = originals.tensor(weight).with_context(|| format!("there is no tensor {weight}"))?.dims.clone();
        let values = originals.floats(weight)?;
        let filters = dims.first().copied().unwrap_or(1).max(1);
        let (quantized, scales) = quantize_filters(&values, filters as usize);
        let (scale, zero_point) = (format!("{weight}_scale"), format!("{weight}_zero_point"));
        self.graph.set_tensor(weight, int8_tensor(&dims, &quantized));
        self.graph.set_tensor(&scale, float_tensor(&[filters], &scales));
        self.graph.set_tensor(&zero_point, int8_tensor(&[filters], &vec![0; filters as usize]));
        let name = self.dequantize(&format!("{weight}_dequantized"), vec![weight.to_owned(), scale, zero_point]);
        Ok((name, scales))
    }

    /// Adds a dequantization with a scale per filter.
    fn dequantize(&mut self, name: &str, inputs: Vec<String>) -> String {
        let name = self.graph.unused_name(name);
        self.graph.nodes.push(node("DequantizeLinear", &name, inputs, vec![int("axis", 0)]));
        name
    }
}

/// Quantizes `filters` filters in -127..=127. Returns the values and the scale of each filter.
fn quantize_filters(values: &[f32], filters: usize) -> (Vec<i8>, Vec<f32>) {
    let size = (values.len() / filters.max(1)).max(1);
    let max = |values: &[f32]| values.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    let min_scale = (max(values) / 127.0 * MIN_SCALE).max(f32::MIN_POSITIVE);
    let scales: Vec<f32> = values.chunks(size).map(|filter| (max(filter) / 127.0).max(min_scale)).collect();
    let quantized = values.chunks(size).zip(&scales).flat_map(|(filter, scale)| {
        filter.iter().map(move |value| (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8)
    });
    (quantized.collect(), scales)
}
