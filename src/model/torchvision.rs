//! Names and weights of torchvision's ResNet-18 and ResNet-34, whose blocks are those of
//! [`Resnet`](super::resnet::Resnet).
//!
//! timm's `resnet18` and `resnet34` have the same names.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::color_input::{IMAGENET_DEVIATION, IMAGENET_MEAN};

/// Whether tensors of these names are of one of torchvision's ResNets.
pub fn is_resnet<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let expected = ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"];
    let mut found = [false; 3];
    names.any(|name| {
        expected.iter().zip(&mut found).filter(|(other, _)| **other == name).for_each(|(_, found)| *found = true);
        found == [true; 3]
    })
}

/// The name in Grimace's ResNet of torchvision's tensor `name`; `None` if it has no such tensor.
///
/// `num_batches_tracked` counts batches for a cumulative average, which neither uses.
pub fn translate(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("conv1.") {
        return Some(format!("stem.conv.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("bn1.") {
        return norm(rest).map(|rest| format!("stem.norm.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("fc.") {
        return Some(format!("output.{rest}"));
    }
    let mut parts = name.strip_prefix("layer")?.splitn(4, '.');
    let (stage, block) = (parts.next()?, parts.next()?);
    let (stage, block): (u32, u32) = (stage.parse().ok()?, block.parse().ok()?);
    let (layer, rest) = (parts.next()?, parts.next()?);
    let tensor = match (layer, rest) {
        ("conv1" | "conv2", rest) => format!("{layer}.{rest}"),
        ("bn1", rest) => format!("norm1.{}", norm(rest)?),
        ("bn2", rest) => format!("norm2.{}", norm(rest)?),
        ("downsample", "0.weight") => "shortcut.conv.weight".to_owned(),
        ("downsample", rest) => format!("shortcut.norm.{}", norm(rest.strip_prefix("1.")?)?),
        _ => return None,
    };
    Some(format!("stage{stage}.block{}.{tensor}", block.checked_add(1)?))
}

/// A tensor of a batch norm that has the same name in both.
fn norm(tensor: &str) -> Option<&str> {
    ["weight", "bias", "running_mean", "running_var"].into_iter().find(|known| *known == tensor)
}

/// The weight of a convolution of gray pixels in 0..1 [O, 1, H, W] that stands for `weight` [O, 3,
/// H, W], which reads color channels normalized as ImageNet; and what the latter adds to each of
/// its outputs `[O]`.
///
/// The channels of a gray image are equal, so its pixel x contributes the sum over colors of w (x -
/// mean) / deviation: the new weight is the sum of w / deviation, not the mean, and -sum of w mean
/// / deviation is a constant, up to the border: padding is 0 after normalization, thus the mean
/// color, and black for the new convolution.
///
/// # Errors
/// A weight of another shape.
pub fn gray_weight(weight: &Tensor) -> Result<(Tensor, Tensor)> {
    let [_, 3, _, _] = weight.size()[..] else {
        bail!("the first convolution has the shape {:?}, expected [filters, 3, side, side]", weight.size())
    };
    let per_color = |values: [f64; 3]| Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1]);
    let scaled = weight.f_to_kind(Kind::Double)?.f_div(&per_color(IMAGENET_DEVIATION)?)?;
    let sum = scaled.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Double)?;
    let constant =
        scaled.f_mul(&per_color(IMAGENET_MEAN)?)?.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double)?;
    Ok((sum.f_to_kind(Kind::Float)?, constant.f_neg()?.f_to_kind(Kind::Float)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::color_input::ColorInput;
    use crate::testing::{noise, unit};
    use tch::{Device, nn};

    #[test]
    fn names_are_translated() {
        for (theirs, ours) in [
            ("conv1.weight", "stem.conv.weight"),
            ("bn1.running_var", "stem.norm.running_var"),
            ("layer1.0.conv1.weight", "stage1.block1.conv1.weight"),
            ("layer3.5.bn2.bias", "stage3.block6.norm2.bias"),
            ("layer2.0.downsample.0.weight", "stage2.block1.shortcut.conv.weight"),
            ("layer2.0.downsample.1.running_mean", "stage2.block1.shortcut.norm.running_mean"),
            ("fc.bias", "output.bias"),
        ] {
            assert_eq!(translate(theirs).as_deref(), Some(ours));
        }
        for unknown in [
            "bn1.num_batches_tracked",
            "layer1.0.bn1.num_batches_tracked",
            "layer1.0.conv3.weight",
            "layer1.x.conv1.weight",
            "layer1.4294967295.conv1.weight",
            "layer1",
            "features.0.weight",
            "",
        ] {
            assert_eq!(translate(unknown), None, "{unknown}");
        }
        assert!(is_resnet(["layer1.0.conv1.weight", "x", "bn1.running_mean", "conv1.weight"].into_iter()));
        assert!(!is_resnet(["conv1.weight", "bn1.running_mean", "stem.conv.weight"].into_iter()));
    }

    /// Away from the border, the gray convolution and the constant are the color convolution of a
    /// normalized gray image.
    #[test]
    fn the_gray_convolution_is_the_color_convolution_of_a_gray_image() {
        let weight = noise(&[8, 3, 7, 7], 1);
        let pixels: Vec<f32> = (0..2 * 48 * 48).map(|i| unit(i, 2) as f32).collect();
        let images = Tensor::from_slice(&pixels).view([2, 1, 48, 48]);
        let store = nn::VarStore::new(Device::Cpu);
        let colors = ColorInput::imagenet(&store.root()).unwrap().forward(&images).unwrap();
        let expected = colors.conv2d(&weight, None::<Tensor>, 2, 3, 1, 1);
        let (gray, constant) = gray_weight(&weight).unwrap();
        assert_eq!(gray.size(), [8, 1, 7, 7]);
        let found = images.conv2d(&gray, None::<Tensor>, 2, 3, 1, 1) + constant.view([1, 8, 1, 1]);
        let inside = |x: &Tensor| x.narrow(2, 2, 20).narrow(3, 2, 20);
        let difference = (inside(&found) - inside(&expected)).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{difference}");
        assert!(gray_weight(&noise(&[8, 1, 7, 7], 1)).unwrap_err().to_string().contains("[8, 1, 7, 7]"));
    }
}
