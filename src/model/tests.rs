use tch::{Kind, Reduction};

use super::cnn::CnnConfig;
use super::layers::Activation;
use super::*;
use crate::data::device_images::scale_to_unit;
use crate::testing::{golden, golden_image, golden_label, networks, noise, numbers, signed};

/// Tensor names in the order of scripts/golden/keras_cnn.py.
const NAMES: [&str; 6] =
    ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];

fn names() -> Vec<String> {
    let blocks = (1..=3).flat_map(|block| NAMES.map(|name| format!("block{block}.{name}")));
    blocks.chain(["dense1.weight", "dense1.bias", "output.weight", "output.bias"].map(String::from)).collect()
}

/// Sets the weights of scripts/golden/keras_cnn.py, by its formula.
fn set_golden_weights(net: &Net) {
    let tensors = net.named_tensors();
    let values: Vec<(String, Tensor)> = names()
        .into_iter()
        .enumerate()
        .map(|(k, name)| {
            let shape = tensors.iter().find(|named| named.name == name).expect("known name").tensor.size();
            let fans = match shape[..] {
                [o, i, h, w] => Some((i * h * w, o * h * w)),
                [o, i] => Some((i, o)),
                _ => None,
            };
            let (base, scale) = match (fans, name.rsplit('.').next().unwrap(), name.contains("norm")) {
                (Some((fan_in, fan_out)), ..) => (0.0, (6.0 / (fan_in + fan_out) as f64).sqrt()),
                (None, "weight", true) => (1.0, 0.1),
                (None, "bias", true) => (0.0, 0.1),
                (None, "running_mean", _) => (0.3, 0.1),
                (None, "running_var", _) => (0.5, 0.2),
                _ => (0.0, 0.05),
            };
            let count = shape.iter().product::<i64>() as u32;
            let values: Vec<f32> = (0..count).map(|i| (base + scale * signed(i, k as u32)) as f32).collect();
            (name, Tensor::from_slice(&values).view(&shape[..]))
        })
        .collect();
    net.load_state_dict(&values).unwrap();
}

fn golden_batch() -> (Tensor, Tensor) {
    let pixels: Vec<u8> = (0..8).flat_map(golden_image).collect();
    let labels: Vec<i64> = (0..8).map(golden_label).collect();
    (scale_to_unit(&Tensor::from_slice(&pixels).view([8, 1, 48, 48])).unwrap(), Tensor::from_slice(&labels))
}

fn net(dropout: f64) -> Net {
    let config = ModelConfig::Cnn(CnnConfig { dropout, ..CnnConfig::default() });
    Net::new(&config, 7, 42, Device::Cpu).unwrap()
}

fn max_difference(actual: &Tensor, expected: &[f64]) -> f64 {
    let actual: Vec<f32> = Vec::try_from(actual.to_kind(Kind::Float).contiguous().flatten(0, -1)).unwrap();
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

fn loss(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0)
}

/// Expected values: scripts/golden/keras_cnn.py, Keras 3.15 with the same weights and images.
#[test]
fn agrees_with_keras_in_inference() {
    let golden = golden("keras_cnn.json");
    let net = net(0.5);
    set_golden_weights(&net);
    let (images, labels) = golden_batch();
    let logits = tch::no_grad(|| net.forward(&images, Mode::Inference)).unwrap();
    let rows = |key: &str| golden[key].as_array().unwrap().iter().flat_map(numbers).collect::<Vec<_>>();
    assert!(max_difference(&logits, &rows("inference_logits")) < 1e-5);
    assert!(max_difference(&logits.softmax(-1, Kind::Float), &rows("inference_probabilities")) < 1e-6);
    let expected = golden["inference_loss_from_logits"].as_f64().unwrap();
    assert!((loss(&logits, &labels).double_value(&[]) - expected).abs() < 1e-5);
}

#[test]
fn agrees_with_keras_in_training() {
    cpu::tests::without_kernels(|| compare_training_with_keras(1e-4));
    // The golden images have ties in max pooling. Rounding breaks them differently, which changes a
    // few gradients. The kernels' own tests are strict.
    compare_training_with_keras(3e-2);
}

/// Compares logits and statistics up to rounding, gradients up to `tolerance` times the largest.
fn compare_training_with_keras(tolerance: f64) {
    let golden = golden("keras_cnn.json");
    let net = net(0.0);
    set_golden_weights(&net);
    let mut flat = FlatParameters::new(&net, Kind::Float).unwrap();
    flat.begin_step().unwrap();
    let (images, labels) = golden_batch();
    let logits = net.forward(&images, Mode::Train).unwrap();
    let expected: Vec<f64> = golden["training_logits"].as_array().unwrap().iter().flat_map(numbers).collect();
    let difference = max_difference(&logits, &expected);
    assert!(difference < 5e-5, "logits differ by {difference}");
    let loss = loss(&logits, &labels);
    assert!((loss.double_value(&[]) - golden["training_loss"].as_f64().unwrap()).abs() < 1e-5);
    loss.backward();

    let tensors = net.named_tensors();
    let find = |name: &str| tensors.iter().find(|named| named.name == name).unwrap().tensor.shallow_clone();
    let first = |tensor: &Tensor| tensor.contiguous().flatten(0, -1).slice(0, 0, 8, 1);
    for record in golden["statistics_after_one_forward"].as_array().unwrap() {
        let tensor = find(record["name"].as_str().unwrap());
        assert!(
            max_difference(&first(&tensor), &numbers(&record["first"])) < 1e-6,
            "{}: Keras keeps the biased variance",
            record["name"]
        );
        assert!((tensor.sum(Kind::Double).double_value(&[]) - record["sum"].as_f64().unwrap()).abs() < 1e-5);
    }
    let gradients = golden["gradients"].as_array().unwrap();
    assert_eq!(gradients.len(), 16);
    for record in gradients {
        let gradient = find(record["name"].as_str().unwrap()).grad();
        let scale = gradient.abs().max().double_value(&[]);
        assert!(
            max_difference(&first(&gradient), &numbers(&record["first"])) < tolerance * scale,
            "{}",
            record["name"]
        );
        let squares = gradient.square().sum(Kind::Double).double_value(&[]);
        let expected = record["sum_of_squares"].as_f64().unwrap();
        assert!((squares / expected - 1.0).abs() < tolerance, "{}: {squares} instead of {expected}", record["name"]);
    }
}

#[test]
fn the_notebooks_cnn_has_keras_size_and_initial_values() {
    let net = net(0.5);
    assert_eq!(net.parameter_count(), 619_463);
    let golden = golden("keras_cnn.json");
    for record in golden["initializers"].as_array().unwrap().iter().filter(|r| r["limit"].is_number()) {
        let name = format!("{}.weight", record["name"].as_str().unwrap());
        let named = net.named_tensors();
        let weight = &named.iter().find(|n| n.name == name).expect("layer of the golden file").tensor;
        let (limit, count) = (record["limit"].as_f64().unwrap(), weight.numel() as f64);
        let max = weight.abs().max().double_value(&[]);
        assert!(max <= limit + 1e-7 && max > 0.97 * limit, "{name}: max {max}, limit {limit}");
        // U(-l, l) has mean 0 and standard deviation l / sqrt(3). Tolerance: five standard errors.
        let mean = weight.mean(Kind::Double).double_value(&[]);
        assert!(mean.abs() < 5.0 * limit / (3.0 * count).sqrt(), "{name}: mean {mean}");
    }
    for named in net.named_tensors() {
        let expected = match named.name.rsplit('.').next().unwrap() {
            "bias" | "running_mean" => 0.0,
            "running_var" => 1.0,
            "weight" if named.name.contains("norm") => 1.0,
            _ => continue,
        };
        assert_eq!((named.tensor - expected).abs().max().double_value(&[]), 0.0);
    }
}

#[test]
fn initial_weights_depend_on_the_seed() {
    let weight = |seed| {
        let net = Net::new(&ModelConfig::Cnn(CnnConfig::default()), 7, seed, Device::Cpu).unwrap();
        net.named_tensors().swap_remove(0).tensor.copy()
    };
    let zero = |t: Tensor| t.abs().max().double_value(&[]) == 0.0;
    assert!(net(0.0).named_tensors()[0].name == "block1.conv.bias");
    let conv = |seed| {
        Net::new(&ModelConfig::Cnn(CnnConfig::default()), 7, seed, Device::Cpu)
            .unwrap()
            .named_tensors()
            .swap_remove(1)
            .tensor
            .copy()
    };
    assert!(zero(weight(1)) && zero(conv(1) - conv(1)) && !zero(conv(1) - conv(2)));
}

#[test]
fn every_network_runs_and_every_parameter_has_a_gradient() {
    let (images, labels) = golden_batch();
    for config in networks() {
        let net = Net::new(&config, 7, 1, Device::Cpu).unwrap();
        let mut flat = FlatParameters::new(&net, Kind::Float).unwrap();
        flat.begin_step().unwrap();
        for (kind, mode) in [(Kind::Float, Mode::Inference), (Kind::BFloat16, Mode::Train), (Kind::Float, Mode::Train)]
        {
            let logits = net.forward(&images.to_kind(kind), mode).unwrap();
            assert_eq!(logits.size(), [8, 7]);
            assert_eq!(logits.kind(), kind);
            loss(&logits.to_kind(Kind::Float), &labels).backward();
        }
        for named in net.named_tensors().iter().filter(|named| named.trainable) {
            let gradient = named.tensor.grad();
            assert!(gradient.abs().max().double_value(&[]) > 0.0, "{config:?}: no gradient at {}", named.name);
        }
        assert!(flat.gradients.square().sum(Kind::Float).double_value(&[]) > 0.0, "gradients are in the flat tensor");
        let total = flat.views(&flat.values).unwrap().iter().map(|(_, view)| view.numel()).sum::<usize>();
        assert_eq!(total, net.parameter_count());
        let values: usize = net.named_tensors().iter().map(|named| named.tensor.numel()).sum();
        assert!(values as u64 <= config.values(7), "{config:?}: {values} values");
    }
}

#[test]
fn batch_norm_of_a_single_value_keeps_statistics_finite() {
    [2, 16].into_iter().for_each(normalize_single_values);
}

fn normalize_single_values(filters: i64) {
    let config =
        CnnConfig { filters: vec![filters; 5], padding: crate::model::cnn::Padding::Same, ..CnnConfig::default() };
    let net = Net::new(&ModelConfig::Cnn(config), 7, 1, Device::Cpu).unwrap();
    drop(net.forward(&golden_batch().0.narrow(0, 0, 1), Mode::Train).unwrap());
    for named in net.named_tensors().iter().filter(|named| !named.trainable) {
        assert!(named.tensor.isfinite().all().int64_value(&[]) == 1, "{}", named.name);
    }
}

/// Compares pooling first with activating first, forward and backward.
#[test]
fn pooling_before_a_monotone_activation_changes_nothing() {
    for activation in [Activation::Relu, Activation::LeakyRelu, Activation::Elu] {
        let x = (Tensor::arange(2 * 3 * 8 * 8, (Kind::Float, Device::Cpu)).view([2, 3, 8, 8]) * 1.7).sin();
        let run = |pool_first: bool| {
            let x = x.copy().set_requires_grad(true);
            let pool = |t: &Tensor| t.max_pool2d(2, 2, 0, 1, false);
            let y = if pool_first {
                activation.forward(&pool(&x)).unwrap()
            } else {
                pool(&activation.forward(&x).unwrap())
            };
            (&y * &y).sum(Kind::Float).backward();
            (y, x.grad())
        };
        let (fast, reference) = (run(true), run(false));
        assert!(fast.0.equal(&reference.0) && fast.1.equal(&reference.1), "{activation:?}");
    }
}

/// Compares loss, gradients and statistics of a training pass with and without the kernels.
#[test]
fn training_with_kernels_agrees_with_libtorch() {
    for config in networks() {
        let images = noise(&[6, 1, 48, 48], 7) * 0.5 + 0.5;
        let labels = golden_batch().1.narrow(0, 0, 6);
        let pass = || {
            let net = Net::new(&config, 7, 1, Device::Cpu).unwrap();
            let mut flat = FlatParameters::new(&net, Kind::Float).unwrap();
            flat.begin_step().unwrap();
            let loss = loss(&net.forward(&images, Mode::Train).unwrap(), &labels);
            loss.backward();
            let statistics = net.named_tensors().into_iter().filter(|named| !named.trainable).map(|named| named.tensor);
            [loss, flat.gradients.copy()].into_iter().chain(statistics).collect::<Vec<_>>()
        };
        for (index, (fast, reference)) in pass().iter().zip(&cpu::tests::without_kernels(pass)).enumerate() {
            let error = (fast - reference).norm().double_value(&[]) / reference.norm().double_value(&[]);
            // In deep networks rounding moves some values across ReLU's corner, which changes their
            // gradients. The kernels' own tests are strict.
            let is_deep_gradient = index == 1 && !matches!(config, ModelConfig::Cnn(_));
            let tolerance = if is_deep_gradient { 2e-2 } else { 1e-4 };
            assert!(error < tolerance, "{config:?}, result {index}: differs by {error}");
        }
    }
}

#[test]
fn channels_last_changes_no_result() {
    let net = net(0.5);
    set_golden_weights(&net);
    let images = golden_batch().0;
    let run = || tch::no_grad(|| net.forward(&images, Mode::Inference)).unwrap();
    let (contiguous, weights) =
        (run(), net.named_tensors().into_iter().map(|named| named.tensor.copy()).collect::<Vec<_>>());
    net.use_channels_last().unwrap();
    assert!((contiguous - run()).abs().max().double_value(&[]) < 1e-5);
    assert!(net.named_tensors().iter().zip(&weights).all(|(named, before)| named.tensor.equal(before)));
    let conv = net.named_tensors().swap_remove(7);
    assert_eq!((conv.name.as_str(), conv.tensor.stride()), ("block2.conv.weight", vec![288, 1, 96, 32]));
}

#[test]
fn load_state_dict_names_mismatches() {
    let net = net(0.5);
    let mut values: Vec<(String, Tensor)> =
        net.named_tensors().into_iter().map(|n| (n.name, n.tensor.copy())).collect();
    net.load_state_dict(&values).unwrap();
    values[1].1 = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    assert!(net.load_state_dict(&values).unwrap_err().to_string().contains("block1.conv.weight has shape [2, 2]"));
    let (name, _) = values.remove(1);
    assert!(net.load_state_dict(&values).unwrap_err().to_string().contains(&name));
    values.push(("block9.conv.weight".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
    assert!(net.load_state_dict(&values).unwrap_err().to_string().contains("block9.conv.weight"));
}

/// The path of GPUs, on the CPU: gradients copied at once, running variances corrected after the
/// backward pass, and in bfloat16 one copy of the weights.
#[test]
fn fused_gradients_agree_with_accumulated_ones() {
    let step = |net: &Net, flat: &mut FlatParameters, kind: Kind| {
        let (images, labels) = golden_batch();
        flat.begin_step().unwrap();
        let logits = net.forward(&images.to_kind(kind), Mode::Train).unwrap().to_kind(Kind::Float);
        let loss = logits.cross_entropy_for_logits(&labels);
        flat.compute_gradients(net, &loss).unwrap();
    };
    for (number, config) in networks().into_iter().enumerate() {
        for (kind, tolerance) in [(Kind::Float, 1e-4), (Kind::BFloat16, 3e-2)] {
            let nets = [(); 2].map(|()| Net::new(&config, 7, 1, Device::Cpu).unwrap());
            let mut flats = [
                FlatParameters::new(&nets[0], kind).unwrap(),
                FlatParameters::for_fused_tests(&nets[1], kind).unwrap(),
            ];
            // Twice: the second pass knows the shapes, and starts from other statistics.
            for (net, flat) in nets.iter().zip(&mut flats).chain([]) {
                cpu::tests::without_kernels(|| (0..2).for_each(|_| step(net, flat, kind)));
            }
            let [expected, found] = &flats;
            let error = |a: &Tensor, b: &Tensor| (a - b).norm().double_value(&[]) / (1e-6 + a.norm().double_value(&[]));
            let gradients = error(&expected.gradients, &found.gradients);
            assert!(gradients < tolerance, "network {number}, {kind:?}: gradients differ by {gradients}");
            if expected.statistics.numel() > 0 {
                let statistics = error(&expected.statistics, &found.statistics);
                assert!(statistics < tolerance, "network {number}, {kind:?}: statistics differ by {statistics}");
            }
            // Inference computes with the float32 weights, and training continues with its own.
            let weights = || nets[1].named_tensors().into_iter().map(|named| named.tensor.kind()).collect::<Vec<_>>();
            let training = weights();
            found.use_weights(&found.values, &found.statistics).unwrap();
            assert!(weights().iter().all(|found| *found == Kind::Float));
            found.use_training_weights().unwrap();
            assert_eq!(weights(), training);
            assert_eq!(training.contains(&Kind::BFloat16), kind == Kind::BFloat16);
            let mark = Tensor::zeros([1], (Kind::Float, Device::Cpu));
            found.mark_nonfinite(&mark).unwrap();
            assert_eq!(mark.double_value(&[0]), 0.0);
            let _ = found.gradients.shallow_clone().narrow(0, 3, 1).fill_(f64::NAN);
            found.mark_nonfinite(&mark).unwrap();
            assert_eq!(mark.double_value(&[0]), 1.0);
        }
    }
}
