//! The layers of a network by name: what `train.freeze` names, and the depth of each tensor for
//! `train.layer_decay`.

use super::config::ModelConfig;

/// The layers of a network from the images to the output, each with the names that its tensors
/// begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroups(Vec<Vec<String>>);

/// Whether `tensor` is one of the layer or group `name`: `stage1.block1` has
/// `stage1.block1.conv1.weight`, and not `stage1.block12.conv1.weight`.
pub fn is_of(tensor: &str, name: &str) -> bool {
    tensor.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
}

impl LayerGroups {
    /// The layers of the network of `config`: a block of `cnn`; a convolution of `vgg` with its
    /// norm; the stem and each residual block of `resnet`; each dense layer; the output.
    pub fn new(config: &ModelConfig) -> Self {
        let one = |name: String| vec![name];
        let mut layers: Vec<Vec<String>> = Vec::new();
        let mut dense = 0;
        match config {
            ModelConfig::Cnn(cnn) => {
                layers.extend((1..=cnn.filters.len()).map(|block| one(format!("block{block}"))));
                dense = cnn.dense.len();
            }
            ModelConfig::Vgg(vgg) => {
                for stage in 1..=vgg.filters.len() {
                    let names = |index| ["conv", "norm"].map(|kind| format!("stage{stage}.{kind}{index}")).to_vec();
                    layers.extend((1..=vgg.convolutions).map(names));
                }
                dense = vgg.dense.len();
            }
            ModelConfig::Resnet(resnet) => {
                layers.push(one("stem".to_owned()));
                for (stage, blocks) in (1..).zip(resnet.stages()) {
                    layers.extend((1..=blocks.len()).map(|block| one(format!("stage{stage}.block{block}"))));
                }
            }
        }
        layers.extend((1..=dense).map(|number| one(format!("dense{number}"))));
        layers.push(one(OUTPUT.to_owned()));
        Self(layers)
    }

    /// The names that `train.freeze` may have, from the images to the output: `block1`, `stage1`,
    /// `stem`, `dense1`, `output`.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().flatten().filter_map(|name| name.split('.').next()).collect();
        names.dedup();
        names
    }

    /// The factor of the learning rate of a tensor with layer-wise learning-rate decay (Clark et
    /// al. 2020; as in BEiT and timm's `param_groups_layer_decay`): 1 for the output, and `decay`
    /// times that of the layer after it for every other layer.
    pub fn learning_rate_factor(&self, decay: f64, tensor: &str) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let depth = self.0.iter().position(|names| names.iter().any(|name| is_of(tensor, name))).unwrap_or(last);
        decay.powi(i32::try_from(last - depth).unwrap_or(i32::MAX))
    }
}

/// The name of the last layer of every architecture.
pub const OUTPUT: &str = "output";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Net;
    use crate::model::cnn::CnnConfig;
    use crate::model::resnet::ResnetConfig;
    use crate::model::vgg::VggConfig;
    use crate::testing::networks;

    #[test]
    fn every_tensor_is_in_one_layer_and_one_group() {
        for config in networks() {
            let groups = LayerGroups::new(&config);
            for named in Net::new(&config, 3, 1, tch::Device::Cpu).unwrap().named_tensors() {
                let layers = groups.0.iter().filter(|names| names.iter().any(|name| is_of(&named.name, name))).count();
                let names = groups.names().into_iter().filter(|name| is_of(&named.name, name)).count();
                assert_eq!((layers, names), (1, 1), "{config:?}: {}", named.name);
            }
        }
    }

    #[test]
    fn names_are_those_of_the_architecture() {
        let names = |config| LayerGroups::new(&config).names().join(" ");
        assert_eq!(names(ModelConfig::Cnn(CnnConfig::default())), "block1 block2 block3 dense1 output");
        let vgg = "stage1 stage2 stage3 stage4 dense1 dense2 output";
        assert_eq!(names(ModelConfig::Vgg(VggConfig::default())), vgg);
        assert_eq!(names(ModelConfig::Resnet(ResnetConfig::default())), "stem stage1 stage2 stage3 output");
    }

    /// timm: `layer_scales = [layer_decay ** (layer_max - i) for i in range(num_layers)]`.
    #[test]
    fn the_learning_rate_decays_from_the_output() {
        let config = ModelConfig::Resnet(ResnetConfig { blocks: vec![1, 12, 1], ..ResnetConfig::default() });
        let groups = LayerGroups::new(&config);
        let factor = |tensor: &str| groups.learning_rate_factor(0.5, tensor);
        assert_eq!(factor("output.bias"), 1.0);
        assert_eq!(factor("stage3.block1.shortcut.norm.bias"), 0.5);
        assert_eq!(
            (factor("stage2.block12.conv1.weight"), factor("stage2.block1.conv1.weight")),
            (0.25, 0.5f64.powi(13))
        );
        assert_eq!(factor("stem.norm.weight"), 0.5f64.powi(15));
        let vgg = LayerGroups::new(&ModelConfig::Vgg(VggConfig::default()));
        let factor = |tensor: &str| vgg.learning_rate_factor(0.5, tensor);
        assert_eq!(
            (factor("dense2.weight"), factor("stage4.norm2.bias"), factor("stage4.conv1.weight")),
            (0.5, 0.125, 0.0625)
        );
    }
}
