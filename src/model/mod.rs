//! Networks: each architecture is one file, a function over `nn::Path` that names every tensor; the names are the
//! checkpoint's contract. To add one: its file, its config in `ModelConfig`, a line in [`Net::new`] and in [`Net::forward`].

pub mod cnn;
pub mod config;
mod cpu;
mod flat_parameters;
mod layers;
mod norm_act;
pub mod resnet;
pub mod vgg;

use anyhow::{Context, Result, bail};
use tch::{Device, Tensor, nn};

pub use config::ModelConfig;
pub use flat_parameters::FlatParameters;

/// Whether a forward pass belongs to training (batch statistics, dropout) or to inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses and updates batch statistics; dropout drops.
    Train,
    /// Batch norm uses running statistics; dropout does nothing.
    Inference,
    /// Inference in libtorch's own operations alone, which a tracer records.
    Trace,
}

#[derive(Debug)]
enum Architecture {
    Cnn(cnn::Cnn),
    Vgg(vgg::Vgg),
    Resnet(resnet::Resnet),
}

/// A network with its weights on one device.
#[derive(Debug)]
pub struct Net {
    store: nn::VarStore,
    architecture: Architecture,
    classes: usize,
    device: Device,
}

/// A tensor of a network by name.
#[derive(Debug)]
pub struct Named {
    /// Dotted name, as `block1.conv.weight`.
    pub name: String,
    /// The tensor itself, not a copy.
    pub tensor: Tensor,
    /// A parameter that training changes, rather than a buffer of running statistics.
    pub trainable: bool,
}

impl Net {
    /// A fresh network for `classes` classes; its initial weights follow from `seed` alone, on every device.
    ///
    /// # Errors
    /// libtorch's, such as a device that has too little memory.
    pub fn new(config: &ModelConfig, classes: usize, seed: u64, device: Device) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let (root, outputs) = (store.root(), classes as i64);
        let architecture = match config {
            ModelConfig::Cnn(cnn) => Architecture::Cnn(cnn::Cnn::new(&root, cnn, outputs, seed)?),
            ModelConfig::Vgg(vgg) => Architecture::Vgg(vgg::Vgg::new(&root, vgg, outputs, seed)?),
            ModelConfig::Resnet(resnet) => Architecture::Resnet(resnet::Resnet::new(&root, resnet, outputs, seed)?),
        };
        // Drawn on the CPU and moved: the same on every device. (`VarStore::set_device` would panic where memory is short.)
        for mut tensor in store.variables().into_values().filter(|_| device != Device::Cpu) {
            tch::no_grad(|| tensor.f_set_data(&tensor.f_to_device(device)?))?;
        }
        Ok(Self { store, architecture, classes, device })
    }

    /// Logits float32 or bf16 [N, classes] for images in 0..1, [N, 1, 48, 48]; computed in the images' number format.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.architecture {
            Architecture::Cnn(cnn) => cnn.forward(images, mode),
            Architecture::Vgg(vgg) => vgg.forward(images, mode),
            Architecture::Resnet(resnet) => resnet.forward(images, mode),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All tensors, sorted by name.
    pub fn named(&self) -> Vec<Named> {
        let mut all: Vec<Named> = self
            .store
            .variables()
            .into_iter()
            .map(|(name, tensor)| Named { trainable: tensor.requires_grad(), name, tensor })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        self.named().iter().filter(|named| named.trainable).map(|named| named.tensor.numel()).sum()
    }

    /// Lays convolution weights out channels-last, which convolutions are faster with, as training does
    /// ([`FlatParameters`]); values and names stay.
    ///
    /// # Errors
    /// libtorch's.
    pub fn use_channels_last(&self) -> Result<()> {
        for mut named in self.named().into_iter().filter(|named| named.tensor.dim() == 4) {
            let weight = named.tensor.f_detach()?;
            let laid_out = weight.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?;
            named.tensor.f_set_data(&laid_out)?;
        }
        Ok(())
    }

    /// Copies `values` (name and tensor of the same shape) into the network.
    ///
    /// # Errors
    /// When a name or shape differs from the network's, naming it.
    pub fn load(&self, values: &[(String, Tensor)]) -> Result<()> {
        let mut named = self.named();
        if let Some((extra, _)) = values.iter().find(|(name, _)| named.iter().all(|own| own.name != *name)) {
            bail!("it holds a tensor {extra}, which this architecture does not have");
        }
        for own in &mut named {
            let (_, value) = values
                .iter()
                .find(|(name, _)| *name == own.name)
                .with_context(|| format!("it holds no tensor {}, which this architecture has", own.name))?;
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

#[cfg(test)]
mod tests;
