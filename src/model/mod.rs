//! Networks. Each architecture is one file: its config, and a struct built over an `nn::Path` that
//! names every tensor.
//!
//! Tensor names are the checkpoint format. To add an architecture: its file, a variant of
//! [`ModelConfig`], and an arm in [`Net`] for what it computes: `forward`, `features`, `classify`.

pub mod cnn;
pub mod color_input;
pub mod config;
mod cpu;
mod feature_grid;
mod flat_parameters;
pub mod layer_groups;
pub(crate) mod layers;
mod norm_act;
pub mod resnet;
mod resnet_config;
pub mod shard;
mod size_limits;
mod statistics_correction;
mod stem_pool;
pub mod torchvision;
pub mod vgg;

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use tch::{Device, Tensor, nn};

pub use config::ModelConfig;
pub use feature_grid::FeatureGrid;
pub use flat_parameters::FlatParameters;
pub use layer_groups::LayerGroups;
pub use layers::Activation;
pub use resnet_config::Downsample;
pub use stem_pool::StemPool;

use layers::BatchNorm;

/// Mode of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses batch statistics and updates the running ones; dropout is active.
    Train,
    /// Batch norm uses running statistics; dropout is the identity.
    Inference,
    /// [`Inference`](Self::Inference) without custom kernels, so that a tracer can record it.
    Trace,
}

#[derive(Debug)]
enum Architecture {
    Cnn(cnn::Cnn),
    Vgg(vgg::Vgg),
    Resnet(resnet::Resnet),
}

/// A network and its weights, on one device.
#[derive(Debug)]
pub struct Net {
    store: nn::VarStore,
    /// Names of the buffers. All other tensors are parameters, whether or not they are frozen.
    buffers: HashSet<String>,
    architecture: Architecture,
    layers: LayerGroups,
    classes: usize,
    device: Device,
    largest_activation: u64,
    feature_grids: Vec<FeatureGrid>,
}

/// A parameter or buffer of a network, with its name.
#[derive(Debug)]
pub struct NamedTensor {
    /// Dotted name, such as `block1.conv.weight`.
    pub name: String,
    /// The tensor itself; shares memory with the network.
    pub tensor: Tensor,
    /// `true` for a parameter, `false` for a buffer (running statistics, constants).
    pub trainable: bool,
    /// Whether it is a parameter that training does not change.
    pub frozen: bool,
}

impl Net {
    /// Creates a network for `classes` classes. The initial weights depend only on `seed`, not on
    /// the device.
    pub fn new(config: &ModelConfig, classes: usize, seed: u64, device: Device) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let (root, outputs) = (store.root(), classes as i64);
        let mut architecture = match config {
            ModelConfig::Cnn(cnn) => Architecture::Cnn(cnn::Cnn::new(&root, cnn, outputs, seed)?),
            ModelConfig::Vgg(vgg) => Architecture::Vgg(vgg::Vgg::new(&root, vgg, outputs, seed)?),
            ModelConfig::Resnet(resnet) => Architecture::Resnet(resnet::Resnet::new(&root, resnet, outputs, seed)?),
        };
        let is_buffer = |(name, tensor): (String, Tensor)| (!tensor.requires_grad()).then_some(name);
        let buffers = store.variables().into_iter().filter_map(is_buffer).collect();
        // Not `VarStore::set_device`, which panics when the device is out of memory.
        for mut tensor in store.variables().into_values().filter(|_| device != Device::Cpu) {
            tch::no_grad(|| tensor.f_set_data(&tensor.f_to_device(device)?))?;
        }
        if let (Architecture::Resnet(net), ModelConfig::Resnet(resnet)) = (&mut architecture, config) {
            net.place(resnet, device)?;
        }
        let (largest_activation, feature_grids) = (config.largest_activation(), config.feature_grids());
        let layers = LayerGroups::new(config);
        Ok(Self { store, buffers, architecture, layers, classes, device, largest_activation, feature_grids })
    }

    /// The layers by name.
    pub fn layers(&self) -> &LayerGroups {
        &self.layers
    }

    /// Freezes the layers of `names`, see [`LayerGroups::names`]: their parameters require no
    /// gradient, and their batch norms use and keep the running statistics. Dropout stays active.
    /// To be called before [`FlatParameters::new`], which leaves frozen parameters out of training.
    pub fn freeze(&self, names: &[String]) -> Result<()> {
        let is_frozen = |tensor: &str| names.iter().any(|name| layer_groups::is_of(tensor, name));
        for named in self.named_tensors().iter().filter(|named| named.trainable && is_frozen(&named.name)) {
            let _ = named.tensor.f_set_requires_grad(false)?;
        }
        self.batch_norms().into_iter().filter(|norm| is_frozen(&norm.variance_name)).for_each(BatchNorm::freeze);
        Ok(())
    }

    /// Computes logits [N, classes] for images [N, 1, 48, 48] in 0..1. The dtype of the images,
    /// float32 or bfloat16, is the dtype of the computation and of the logits.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.architecture {
            Architecture::Cnn(cnn) => cnn.forward(images, mode),
            Architecture::Vgg(vgg) => vgg.forward(images, mode),
            Architecture::Resnet(resnet) => resnet.forward(images, mode),
        }
    }

    /// Computes the feature map [N, C, H, W] of `layer` (an index into
    /// [`feature_grids`](Self::feature_grids)) for images [N, 1, 48, 48] in 0..1.
    /// [`classify`](Self::classify) computes the rest of [`forward`](Self::forward) from it, with the
    /// same result up to rounding.
    ///
    /// # Errors
    /// A layer that the network does not have.
    pub fn features(&self, images: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        match &self.architecture {
            Architecture::Cnn(cnn) => cnn.features(images, layer, mode),
            Architecture::Vgg(vgg) => vgg.features(images, layer, mode),
            Architecture::Resnet(resnet) => resnet.features(images, layer, mode),
        }
    }

    /// Computes logits [N, classes] from the feature map of `layer`.
    ///
    /// # Errors
    /// A layer that the network does not have.
    pub fn classify(&self, features: &Tensor, layer: usize, mode: Mode) -> Result<Tensor> {
        match &self.architecture {
            Architecture::Cnn(cnn) => cnn.classify(features, layer, mode),
            Architecture::Vgg(vgg) => vgg.classify(features, layer, mode),
            Architecture::Resnet(resnet) => resnet.classify(features, layer, mode),
        }
    }

    /// The cells of the feature map of each layer that [`features`](Self::features) computes: one for
    /// each block of `cnn`, each stage of `vgg` and `resnet`.
    pub fn feature_grids(&self) -> &[FeatureGrid] {
        &self.feature_grids
    }

    /// The batch norms.
    fn batch_norms(&self) -> Vec<&BatchNorm> {
        match &self.architecture {
            Architecture::Cnn(cnn) => cnn.batch_norms(),
            Architecture::Vgg(vgg) => vgg.batch_norms(),
            Architecture::Resnet(resnet) => resnet.batch_norms(),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of elements of the largest activation, per image.
    pub fn largest_activation(&self) -> u64 {
        self.largest_activation
    }

    /// Device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns all parameters and buffers, sorted by name.
    pub fn named_tensors(&self) -> Vec<NamedTensor> {
        let mut all: Vec<NamedTensor> = self
            .store
            .variables()
            .into_iter()
            .map(|(name, tensor)| {
                let trainable = !self.buffers.contains(&name);
                NamedTensor { frozen: trainable && !tensor.requires_grad(), trainable, name, tensor }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Number of parameters, frozen ones included.
    pub fn parameter_count(&self) -> usize {
        self.named_tensors().iter().filter(|named| named.trainable).map(|named| named.tensor.numel()).sum()
    }

    /// Number of frozen parameters.
    pub fn frozen_count(&self) -> usize {
        self.named_tensors().iter().filter(|named| named.frozen).map(|named| named.tensor.numel()).sum()
    }

    /// Converts convolution weights to the channels-last memory format, in which convolutions are
    /// faster. Names and values do not change. Training does the same through [`FlatParameters`].
    pub fn use_channels_last(&self) -> Result<()> {
        for mut named in self.named_tensors().into_iter().filter(|named| named.tensor.dim() == 4) {
            let options = (named.tensor.f_kind()?, self.device);
            let flat = Tensor::f_empty([named.tensor.numel() as i64], options)?;
            let mut channels_last = channels_last_view(&flat, &named.tensor.size())?;
            tch::no_grad(|| channels_last.f_copy_(&named.tensor))?;
            named.tensor.f_set_data(&channels_last)?;
        }
        Ok(())
    }

    /// Copies the parameters and buffers in `state` into the network.
    ///
    /// # Errors
    /// A missing or unexpected name, or a shape mismatch.
    pub fn load_state_dict(&self, state: &[(String, Tensor)]) -> Result<()> {
        let mut named = self.named_tensors();
        if let Some((extra, _)) = state.iter().find(|(name, _)| named.iter().all(|own| own.name != *name)) {
            bail!("unexpected tensor {extra}: this architecture has none of that name");
        }
        for own in &mut named {
            let (_, value) = state
                .iter()
                .find(|(name, _)| *name == own.name)
                .with_context(|| format!("missing tensor {}, which this architecture has", own.name))?;
            if value.size() != own.tensor.size() {
                bail!(
                    "tensor {} has shape {:?}; this architecture has {:?}",
                    own.name,
                    value.size(),
                    own.tensor.size()
                );
            }
            tch::no_grad(|| own.tensor.f_copy_(value))?;
        }
        Ok(())
    }
}

/// Views a flat tensor as a weight of `shape`; that of a convolution [O, I, H, W] as channels-last,
/// with its strides also for one input channel, where `permute` and `contiguous` do not change them.
fn channels_last_view(flat: &Tensor, shape: &[i64]) -> Result<Tensor> {
    Ok(match *shape {
        [output, input, height, width] => flat.f_view([output, height, width, input])?.f_permute([0, 3, 1, 2])?,
        _ => flat.f_view(shape)?,
    })
}

/// The blocks or stages before, at and after `layer`.
fn split_at_layer<T>(layers: &[T], layer: usize) -> Result<(&[T], &T, &[T])> {
    let (before, rest) = layers.split_at_checked(layer).unwrap_or((layers, &[]));
    let (at, after) = rest.split_first().with_context(|| format!("the network has no layer {}", layer + 1))?;
    Ok((before, at, after))
}

#[cfg(test)]
mod frozen_tests;
#[cfg(test)]
mod tests;
