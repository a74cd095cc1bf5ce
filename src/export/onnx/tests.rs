//! The graph of every network: against the network, folded, and quantized.

use std::collections::HashMap;

use prost::Message as _;
use tch::Device;

use super::fold::{fold, operator};
use super::graph::{INPUT, OUTPUT, float_tensor, ints};
use super::proto::{DataType, ModelProto, NodeProto};
use super::quantize::{Range, quantize, quantized_layers, quantized_values, range_source};
use super::*;
use crate::export::verification::TOLERANCE;
use crate::model::{ModelConfig, Net};
use crate::testing::{golden_image, networks};
use crate::transforms::tta::Tta;

fn net(config: &ModelConfig) -> Net {
    let net = Net::new(config, 5, 3, Device::Cpu).unwrap();
    // Running statistics and affine parameters that differ from their initial values.
    for (salt, mut named) in (0..).zip(net.named_tensors()) {
        if named.tensor.dim() == 1 {
            let noise = crate::testing::noise(&named.tensor.size(), salt) * 0.2;
            tch::no_grad(|| named.tensor.copy_(&(&named.tensor + noise)));
        }
    }
    net
}

fn model(nets: Vec<Net>, tta: Tta) -> ExportedModel {
    ExportedModel::from_nets(nets, tta)
}

fn graph(model: &ExportedModel) -> Graph {
    traced_graph(model, &Verification::new(model).unwrap()).unwrap()
}

fn runtime(graph: &Graph) -> Runtime {
    Runtime::without_optimization(graph.encode(48, 5, &[])).unwrap()
}

fn pixels(count: u64) -> Vec<f32> {
    (0..count).flat_map(golden_image).map(f32::from).collect()
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_network_equals_its_graph() {
    let folder = tempfile::tempdir().unwrap();
    for config in networks() {
        let difference =
            write(&model(vec![net(&config)], Tta::None), &mut Map::new(), &folder.path().join("model.onnx"));
        let difference = difference.unwrap_or_else(|error| panic!("{config:?}: {error:#}"));
        assert!(difference <= TOLERANCE, "{config:?}: {difference}");
    }
}

#[test]
fn the_graph_averages_over_tta_and_networks() {
    let folder = tempfile::tempdir().unwrap();
    let net = |index: usize| net(&networks()[index]);
    for (nets, tta) in [(vec![net(0), net(1)], Tta::Flip), (vec![net(10)], Tta::TenCrop)] {
        let difference = write(&model(nets, tta), &mut Map::new(), &folder.path().join("model.onnx")).unwrap();
        assert!(difference <= TOLERANCE, "{tta}: {difference}");
    }
}

#[test]
fn a_file_of_other_weights_is_rejected() {
    let config = networks().swap_remove(0);
    let other = Net::new(&config, 5, 4, Device::Cpu).unwrap();
    let verification = Verification::new(&model(vec![other], Tta::None)).unwrap();
    let message = verify(&runtime(&graph(&model(vec![net(&config)], Tta::None))), &verification).unwrap_err();
    assert!(message.to_string().contains("differs from the checkpoint by"), "{message}");
}

#[test]
fn the_file_has_the_names_of_the_checkpoint_and_the_description() {
    let two = model(vec![net(&networks()[0]), net(&networks()[10])], Tta::Flip);
    let description = two.description(crate::export::Format::Onnx);
    let file = ModelProto::decode(&encode(&graph(&two), &two, &description).unwrap()[..]).unwrap();
    let graph = file.graph.unwrap();
    let tensors: HashMap<&str, &super::proto::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_deref().unwrap(), tensor)).collect();
    for named in two.named_tensors() {
        let values = Vec::<f32>::try_from(named.tensor.flatten(0, -1)).unwrap();
        let expected = float_tensor(&named.tensor.size(), &values);
        assert_eq!(tensors[named.name.as_str()].raw_data, expected.raw_data, "{}", named.name);
        assert_eq!(tensors[named.name.as_str()].dims, expected.dims, "{}", named.name);
    }
    let names: Vec<&str> = graph.node.iter().map(|node| node.name.as_deref().unwrap()).collect();
    assert!(names.contains(&"model1.block1.conv") && names.contains(&"model2.stage1.block1.conv1_2"), "{names:?}");
    assert_eq!((graph.input[0].name.as_deref(), graph.output[0].name.as_deref()), (Some(INPUT), Some(OUTPUT)));
    let metadata: Value = serde_json::from_str(file.metadata_props[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((&metadata["format"], &metadata["tta"]), (&"onnx".into(), &"flip".into()));
}

#[test]
fn folding_changes_no_output() {
    for config in networks() {
        let original = graph(&model(vec![net(&config)], Tta::Flip));
        let folded = fold(original.clone()).unwrap();
        let count = |graph: &Graph, name: &str| graph.nodes.iter().filter(|node| operator(node) == name).count();
        let norms = count(&original, "BatchNormalization");
        match config {
            // Pooling lies between a convolution and its norm.
            ModelConfig::Cnn(_) => assert_eq!(count(&folded, "BatchNormalization"), norms),
            ModelConfig::Vgg(_) => assert!(norms > 0 && count(&folded, "BatchNormalization") == 0),
            ModelConfig::Resnet(_) => assert!(count(&folded, "BatchNormalization") <= 2, "those of the pooled stem"),
        }
        let run = |graph: &Graph| runtime(graph).run(pixels(4)).unwrap();
        let difference = max_difference(&run(&original), &run(&folded));
        assert!(difference < 1e-5, "{config:?}: {difference}");
    }
}

/// Ranges from the values of a few images.
fn ranges(graph: &Graph) -> HashMap<String, Range> {
    let values = quantized_values(graph);
    let range = |value: &String| {
        let source = range_source(graph, &values, value);
        let found = runtime(graph).values(pixels(8), &[source]).unwrap().remove(0);
        let (min, max) = found.iter().fold((0.0f32, 0.0f32), |(min, max), value| (min.min(*value), max.max(*value)));
        (value.clone(), Range::new(min, max))
    };
    values.iter().map(range).collect()
}

#[test]
fn int8_is_close_to_float32() {
    let (mut quantized_networks, mut tried) = (0, 0);
    for config in networks() {
        let folded = fold(graph(&model(vec![net(&config)], Tta::Flip))).unwrap();
        tried += 1;
        if quantized_layers(&folded) == 0 {
            continue;
        }
        quantized_networks += 1;
        let quantized = quantize(folded.clone(), &ranges(&folded)).unwrap();
        let run = |graph: &Graph| runtime(graph).run(pixels(8)).unwrap();
        let difference = max_difference(&run(&folded), &run(&quantized));
        assert!(difference > 0.0 && difference < 0.03, "{config:?}: {difference}");
        let count = |name: &str| quantized.nodes.iter().filter(|node| operator(node) == name).count();
        assert_eq!(count("QuantizeLinear"), quantized_values(&folded).len());
        for node in quantized.nodes.iter().filter(|node| operator(node) == "DequantizeLinear") {
            let kind = quantized.tensor(&node.input[0]).map(|tensor| tensor.data_type());
            assert!(matches!(kind, None | Some(DataType::Int8 | DataType::Int32)), "{node:?}");
        }
    }
    assert!(quantized_networks > 8, "{quantized_networks} of {tried}");
}

#[test]
fn an_operation_without_translation_is_named() {
    let operation = |name: &str, operands| torch_ext::Operation {
        name: name.to_owned(),
        operands,
        output: 1,
        shape: vec![3, 1, 48, 48],
    };
    let unknown = operation("aten::cosh", vec![torch_ext::Operand::Value(0)]);
    let message = format!("{:#}", operators::translate(&[unknown], 1, &[]).unwrap_err());
    assert!(message.starts_with("aten::cosh cannot be written as ONNX"), "{message}");
}

#[test]
fn attributes_keep_their_types() {
    let node = NodeProto { attribute: vec![ints("pads", &[0, 0])], ..NodeProto::default() };
    // Field 5 (attribute): name in field 1, ints unpacked in field 8, the type INTS in field 20.
    assert_eq!(node.encode_to_vec(), b"\x2a\x0d\x0a\x04pads\x40\x00\x40\x00\xa0\x01\x07");
}
