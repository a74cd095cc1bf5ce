//! Parts of the flat parameters that are updated on their own: those with learning rates of their
//! own, for layer-wise learning-rate decay, and the matrices of Muon.

use anyhow::Result;
use tch::Tensor;

use crate::model::FlatParameters;
use crate::model::layer_groups::{OUTPUT, is_of};

/// A range of the trained elements with one factor of the learning rate and one kind of update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// First element.
    pub start: i64,
    /// Number of elements.
    pub length: i64,
    /// Number of its leading elements subject to weight decay.
    pub decayed: i64,
    /// Factor of the learning rate.
    pub factor: f64,
    /// Rows and columns, if the part is the weights of one layer that Muon updates.
    pub matrix: Option<[i64; 2]>,
}

impl Part {
    /// The range of `flat`, a tensor in the layout of [`FlatParameters::values`] or
    /// [`FlatParameters::gradients`].
    pub fn of(&self, flat: &Tensor) -> Result<Tensor> {
        Ok(flat.f_narrow(0, self.start, self.length)?)
    }

    /// The matrix of `shape` in `flat`, a tensor as in [`of`](Self::of): a row for each filter or
    /// unit. The order of the columns is that of the memory format.
    pub fn matrix_of(&self, flat: &Tensor, shape: [i64; 2]) -> Result<Tensor> {
        Ok(flat.f_narrow(0, self.start, shape.iter().product())?.f_view(shape)?)
    }
}

/// All trained elements, with the full learning rate.
pub fn one_part(parameters: &FlatParameters) -> Vec<Part> {
    vec![Part { start: 0, length: parameters.trained, decayed: parameters.decayed, factor: 1.0, matrix: None }]
}

/// The longest ranges of trained tensors with equal `factor`, all with weight decay or all without.
/// Tensors of a layer are neighbors, so these are about two for each layer. With `matrices`, the
/// weights of each layer but the output are a part of their own.
pub fn parts(parameters: &FlatParameters, factor: impl Fn(&str) -> f64, matrices: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let is_decayed = |start: i64| start < parameters.decayed;
    for segment in parameters.trained_segments() {
        let factor = factor(&segment.name);
        let is_matrix = matrices && is_decayed(segment.start) && !is_of(&segment.name, OUTPUT);
        let rows = segment.shape.first().filter(|_| is_matrix);
        let matrix = rows.map(|rows| [*rows, segment.shape.iter().skip(1).product()]);
        let continues = |part: &&Part| {
            let is_equal = part.factor == factor && is_decayed(part.start) == is_decayed(segment.start);
            is_equal && part.matrix.is_none() && matrix.is_none()
        };
        if parts.last().filter(continues).is_none() {
            parts.push(Part { start: segment.start, length: 0, decayed: 0, factor, matrix });
        }
    }
    // Up to the next part, with the padding between.
    let starts: Vec<i64> = parts.iter().map(|part| part.start).skip(1).chain([parameters.trained]).collect();
    for (part, next) in parts.iter_mut().zip(starts) {
        part.length = next - part.start;
        part.decayed = if is_decayed(part.start) { part.length } else { 0 };
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Net;
    use crate::optim::optimizer::{AdamConfig, AdamwConfig, MuonConfig, Optimizer, OptimizerConfig, SgdConfig};
    use crate::optim::step_scalars::{DeviceScalars, StepScalars};
    use crate::testing::{networks, noise};
    use tch::{Device, Kind};

    #[test]
    fn parts_cover_the_trained_elements_once() {
        for config in networks() {
            let net = Net::new(&config, 7, 1, Device::Cpu).unwrap();
            let first = net.layers().names()[0].to_owned();
            for (frozen, matrices) in [(vec![], false), (vec![first.clone()], false), (vec![first], true)] {
                net.freeze(&frozen).unwrap();
                let flat = FlatParameters::new(&net, Kind::Float).unwrap();
                let factor = |name: &str| net.layers().learning_rate_factor(0.5, name);
                let parts = parts(&flat, factor, matrices);
                let ends: Vec<i64> = parts.iter().map(|part| part.start + part.length).collect();
                assert!(parts[0].start == 0 && *ends.last().unwrap() == flat.trained, "{config:?}");
                assert!(parts.iter().skip(1).zip(&ends).all(|(part, end)| part.start == *end), "{config:?}");
                assert_eq!(parts.iter().map(|part| part.decayed).sum::<i64>(), flat.decayed, "{config:?}");
                for segment in flat.trained_segments() {
                    let part = parts.iter().find(|part| segment.start < part.start + part.length).unwrap();
                    assert_eq!(part.factor, factor(&segment.name), "{}", segment.name);
                    let is_matrix = matrices && segment.shape.len() > 1 && !segment.name.starts_with("output.");
                    let shape = part.matrix.map(|shape| shape.iter().product::<i64>());
                    assert_eq!(shape, is_matrix.then(|| segment.shape.iter().product()), "{}", segment.name);
                }
            }
        }
    }

    /// Layers with factors of the learning rate are updated as by an optimizer of their own, in
    /// both implementations, and frozen ones not at all.
    #[test]
    fn parts_have_learning_rates_of_their_own() {
        let network = networks().into_iter().next_back().unwrap();
        let configs = [
            OptimizerConfig::Adam(AdamConfig::default()),
            OptimizerConfig::Adamw(AdamwConfig { weight_decay: 0.1, ..AdamwConfig::default() }),
            OptimizerConfig::Sgd(SgdConfig { weight_decay: 0.1, ..SgdConfig::default() }),
            OptimizerConfig::Muon(MuonConfig::default()),
        ];
        for config in configs {
            for fused in [false, true] {
                let updated = |factor: Option<f64>, lr: f64| {
                    let net = Net::new(&network, 7, 1, Device::Cpu).unwrap();
                    net.freeze(&["stem".to_owned()]).unwrap();
                    let mut flat = FlatParameters::new(&net, Kind::Float).unwrap();
                    let mut optimizer = Optimizer::new(&config, &flat).unwrap();
                    if let Some(decay) = factor {
                        let factor = |name: &str| net.layers().learning_rate_factor(decay, name);
                        optimizer = optimizer.with_factors(&flat, factor).unwrap();
                    }
                    for step in 1..=3u64 {
                        flat.gradients.copy_(&(noise(&[flat.trained], 7) * 0.1));
                        let mut scalars = StepScalars::on_host(lr, step, 0.0);
                        if fused {
                            let row = DeviceScalars::upload(&[scalars], Device::Cpu).unwrap().select(0, 0);
                            scalars = StepScalars::on_host(lr, step, 0.0);
                            scalars.on_device = Some(DeviceScalars::from_row(&row).unwrap());
                        }
                        optimizer.step(&mut flat, &scalars).unwrap();
                    }
                    flat.views(&flat.values).unwrap().into_iter().map(|(name, view)| (name, view.copy())).collect()
                };
                let before: Vec<(String, Tensor)> = Net::new(&network, 7, 1, Device::Cpu)
                    .unwrap()
                    .named_tensors()
                    .into_iter()
                    .map(|n| (n.name, n.tensor))
                    .collect();
                let decayed: Vec<(String, Tensor)> = updated(Some(0.5), 0.04);
                let slow: Vec<(String, Tensor)> = updated(None, 0.02);
                let fast: Vec<(String, Tensor)> = updated(None, 0.04);
                for (((name, found), (_, slow)), (_, fast)) in decayed.iter().zip(&slow).zip(&fast) {
                    let (_, before) = before.iter().find(|(other, _)| other == name).unwrap();
                    let distance = |other: &Tensor| (found - other).abs().max().double_value(&[]);
                    let is_frozen = name.starts_with("stem.");
                    assert_eq!(distance(before) == 0.0, is_frozen, "{name}");
                    if name.starts_with("output.") {
                        assert!(distance(fast) < 1e-6 && distance(slow) > 1e-3, "{config:?}, {name}, fused {fused}");
                    }
                    // The last block of this network.
                    if name.starts_with("stage2.block2.") {
                        assert!(distance(slow) < 1e-6 && distance(fast) > 1e-3, "{config:?}, {name}, fused {fused}");
                    }
                }
            }
        }
    }
}
