//! The target for initial weights.

use grimace::config::{self, Config};
use grimace::train::initial_weights::{WeightsFile, transfer};
use grimace::util::error::is_input;

use super::assemble::{checkpoint_from_text, container_from_text};
use super::{Scratch, assert_input_error, network};

/// A small ResNet of gray pixels, whose first convolution may be that of a network of colors.
const CONFIG: &str = "name = \"x\"\n[data]\ntrain = \"a.csv\"\nclasses = [\"a\", \"b\"]\n[model]\nkind = \"resnet\"\n\
                      stem = 2\nwidths = [2, 3]\nblocks = [1, 1]\nsqueeze = 0\n";

/// A file of initial weights: raw, built from its header, or a checkpoint built from its parts.
///
/// The file is read or refused by name. Its tensors are copied into a small network, which has only
/// finite values then, or refused.
pub fn weights(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => container_from_text(rest),
        _ => checkpoint_from_text(&String::from_utf8_lossy(rest)),
    };
    let file = Scratch::new(&bytes);
    let weights = match WeightsFile::open(&file.0) {
        Ok(weights) => weights,
        Err(error) => return assert_input_error(&error, &[&file.name()]),
    };
    let config: Config = config::from_text(CONFIG, "weights").expect("a valid config");
    let net = network(&config);
    match transfer(&net, &weights, &config.data.classes) {
        Ok(notes) => assert!(notes.len() >= 2, "{notes:?}"),
        Err(error) => assert!(is_input(&error), "not an input error: {error:#}"),
    }
    for named in net.named_tensors() {
        let is_finite = named.tensor.f_isfinite().and_then(|finite| finite.f_all()).and_then(bool::try_from);
        assert!(is_finite.expect("a small tensor"), "{} is not finite", named.name);
    }
}
