//! Frozen layers of every architecture.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::testing::{networks, noise};

fn images() -> Tensor {
    (noise(&[6, 1, 48, 48], 4) + 1.0) * 0.5
}

fn frozen_net(config: &ModelConfig, names: &[&str]) -> Net {
    let net = Net::new(config, 7, 1, Device::Cpu).unwrap();
    // Statistics that are not those of the batch.
    for named in net.named_tensors().iter().filter(|named| named.name.contains("running_")) {
        let values = noise(&named.tensor.size(), 8) * 0.1;
        let values = if named.name.ends_with("running_var") { values + 0.7 } else { values };
        tch::no_grad(|| named.tensor.shallow_clone().copy_(&values));
    }
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    net.freeze(&names).unwrap();
    net
}

/// Gradients of the trained tensors and the running statistics after a training pass.
fn pass(net: &Net, flat: &mut FlatParameters) -> Vec<(String, Tensor)> {
    flat.begin_step().unwrap();
    let logits = net.forward(&images(), Mode::Train).unwrap();
    let loss = logits.cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 1, 2, 3, 4, 5]));
    flat.compute_gradients(net, &loss).unwrap();
    let mut all = flat.trained_views(&flat.gradients).unwrap();
    all.extend(net.named_tensors().into_iter().filter(|named| !named.trainable).map(|n| (n.name, n.tensor)));
    all
}

#[test]
fn frozen_layers_have_no_gradient_and_keep_their_statistics() {
    for config in networks() {
        let names: Vec<String> = LayerGroups::new(&config).names().into_iter().map(str::to_owned).collect();
        // The first layers, and one in the middle, through which gradients flow.
        for name in names.iter().take(2) {
            let net = frozen_net(&config, &[name]);
            let before: Vec<NamedTensor> =
                net.named_tensors().into_iter().map(|n| NamedTensor { tensor: n.tensor.detach_copy(), ..n }).collect();
            let mut flat = FlatParameters::new(&net, Kind::Float).unwrap();
            let results = pass(&net, &mut flat);
            let of_layer = |tensor: &str| layer_groups::is_of(tensor, name);
            for (before, after) in before.iter().zip(net.named_tensors()) {
                assert_eq!(after.frozen, after.trainable && of_layer(&after.name), "{config:?}: {}", after.name);
                if of_layer(&after.name) {
                    assert!(before.tensor.equal(&after.tensor), "{config:?}: {} changed", after.name);
                    assert!(!after.tensor.grad().defined(), "{config:?}: {} has a gradient", after.name);
                } else if after.name.ends_with("running_mean") {
                    assert!(!before.tensor.equal(&after.tensor), "{config:?}: {} stayed", after.name);
                }
            }
            let trained: i64 = net.named_tensors().iter().filter(|n| n.trainable && !n.frozen).count() as i64;
            assert_eq!(flat.trained_segments().count() as i64, trained);
            assert!(flat.trained < flat.values.numel() as i64 && flat.gradients.numel() as i64 == flat.trained);
            assert_eq!(net.frozen_count() + trained_count(&net), net.parameter_count());
            for (tensor, gradient) in results.iter().take(flat.trained_segments().count()) {
                assert!(gradient.abs().max().double_value(&[]) > 0.0, "{config:?}: no gradient at {tensor}");
            }
        }
    }
}

fn trained_count(net: &Net) -> usize {
    net.named_tensors().iter().filter(|n| n.trainable && !n.frozen).map(|n| n.tensor.numel()).sum()
}

/// The paths of the CPU and of GPUs, with the custom kernels and without.
#[test]
fn all_paths_agree_with_frozen_layers() {
    for config in networks() {
        let names: Vec<String> = LayerGroups::new(&config).names().into_iter().map(str::to_owned).collect();
        for name in names.iter().take(2) {
            let results = |fused: bool| {
                let net = frozen_net(&config, &[name]);
                let flat = if fused { FlatParameters::for_fused_tests } else { FlatParameters::new };
                pass(&net, &mut flat(&net, Kind::Float).unwrap())
            };
            let reference = cpu::tests::without_kernels(|| results(false));
            for (path, found) in [("fused", cpu::tests::without_kernels(|| results(true))), ("kernels", results(false))]
            {
                let flat = |all: &[(String, Tensor)]| {
                    let parts: Vec<Tensor> = all.iter().map(|(_, tensor)| tensor.flatten(0, -1).detach()).collect();
                    Tensor::cat(&parts, 0)
                };
                let (found, expected) = (flat(&found), flat(&reference));
                let error = (&found - &expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
                // Rounding moves some values across ReLU's corner.
                assert!(error < 2e-2, "{config:?}, {name}, {path}: differs by {error}");
            }
        }
    }
}

/// With every norm frozen, training computes what inference does.
#[test]
fn a_network_frozen_up_to_its_output_computes_as_in_inference() {
    for config in networks() {
        let layers = LayerGroups::new(&config);
        let names: Vec<&str> = layers.names().into_iter().filter(|name| *name != layer_groups::OUTPUT).collect();
        let net = frozen_net(&config, &names);
        let [training, inference] = [Mode::Train, Mode::Inference].map(|mode| net.forward(&images(), mode).unwrap());
        assert!(training.requires_grad());
        let difference = (training - inference).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{config:?}: {difference}");
    }
}
