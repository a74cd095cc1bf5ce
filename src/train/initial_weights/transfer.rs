//! Copies the weights of a file into a network, and says what was taken.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tch::Tensor;

use super::weights_file::{Weight, WeightsFile};
use crate::model::{NamedTensor, Net, color_input, torchvision};
use crate::util::error::input;
use crate::util::text::{count, short};

/// Names that a line of the log lists.
const MAX_LISTED: usize = 40;

/// Weight and bias of the last layer.
const HEAD: [&str; 2] = ["output.weight", "output.bias"];

/// Copies the weights of `file` into `net`, which has `classes`. Returns lines for the log.
///
/// Of the last layer, the rows of classes that both have are taken by name; the others stay as they
/// are.
///
/// # Errors
/// An input error for a tensor of another shape or with values that are not finite, and for a file that
/// has no tensor of the network but the last layer.
pub fn transfer(net: &Net, file: &WeightsFile, classes: &[String]) -> Result<Vec<String>> {
    let shown = file.path.display();
    let mut notes = vec![format!("initial weights: {shown} ({}), BLAKE3 {}", file.description, file.hash)];
    let mut own: BTreeMap<String, NamedTensor> =
        net.named_tensors().into_iter().map(|named| (named.name.clone(), named)).collect();
    let mut found: BTreeMap<&str, Tensor> =
        file.weights.iter().map(|weight| (weight.name.as_str(), weight.values.shallow_clone())).collect();
    notes.extend(adapt_to_gray(&own, &mut found)?);
    let head = HEAD.map(|name| own.remove(name));
    let (mut taken, mut new) = (0, Vec::new());
    let mut used: BTreeSet<&str> = HEAD.into_iter().collect();
    for (name, named) in &own {
        let Some((&name, values)) = found.get_key_value(name.as_str()) else {
            new.extend((!color_input::is_constant(name)).then(|| name.clone()));
            continue;
        };
        if values.size() != named.tensor.size() {
            let (found, expected) = (values.size(), named.tensor.size());
            return Err(input(format!(
                "its tensor {} has the shape {found:?}, and {name} of this network {expected:?}; set the keys of \
                 [model] to those of the file's network",
                name_in_file(file, name)
            )));
        }
        copy(&named.tensor, values, name)?;
        used.insert(name);
        taken += 1;
    }
    if taken == 0 {
        let have: Vec<String> = file.weights.iter().map(|weight| short(&weight.name_in_file, 100)).collect();
        return Err(input(format!(
            "it has no tensor of this network: it has {}, the network has {}; check model.kind",
            listed(&have),
            listed(&own.into_keys().collect::<Vec<_>>())
        )));
    }
    let [Some(weight), Some(bias)] = head else { anyhow::bail!("the network has no last layer") };
    let found = HEAD.map(|name| found.get(name));
    let rows = take_head([&weight.tensor, &bias.tensor], found, file.classes.as_deref(), classes)?;
    notes.push(format!("initial weights: took {} and of the last layer {rows}", count(taken, "tensor")));
    if !new.is_empty() {
        notes.push(format!("warning: not in {}, so new: {}", file.path.display(), listed(&new)));
    }
    let unused = file.weights.iter().filter(|weight| !used.contains(weight.name.as_str()));
    let unused: Vec<String> = unused.map(|weight| short(&weight.name_in_file, 100)).collect();
    notes.extend(describe_unused(file, unused));
    Ok(notes)
}

/// The line about tensors of the file that the network does not have.
fn describe_unused(file: &WeightsFile, mut unused: Vec<String>) -> Option<String> {
    let (counters, others): (Vec<&String>, Vec<&String>) =
        file.others.iter().partition(|name| name.ends_with("num_batches_tracked"));
    unused.extend(others.into_iter().map(|name| short(name, 100)));
    if !counters.is_empty() {
        unused.push(format!("num_batches_tracked of {}", count(counters.len(), "norm")));
    }
    (!unused.is_empty()).then(|| format!("initial weights: not used of {}: {}", file.path.display(), listed(&unused)))
}

/// Copies `values` to `own`.
fn copy(own: &Tensor, values: &Tensor, name: &str) -> Result<()> {
    if !bool::try_from(values.f_isfinite()?.f_all()?)? {
        return Err(input(format!("its tensor {name} has values that are not finite")));
    }
    Ok(tch::no_grad(|| own.shallow_clone().f_copy_(values))?)
}

/// Makes a first convolution of normalized colors one of gray pixels, if the network has one
/// channel and the file three, see [`torchvision::gray_weight`]. What it no longer adds, the
/// running mean of its norm does not subtract.
fn adapt_to_gray(own: &BTreeMap<String, NamedTensor>, found: &mut BTreeMap<&str, Tensor>) -> Result<Option<String>> {
    let (weight, mean) = ("stem.conv.weight", "stem.norm.running_mean");
    let (Some(ours), Some(theirs)) = (own.get(weight), found.get(weight)) else { return Ok(None) };
    let ([_, 1, ..], [_, 3, _, _]) = (&ours.tensor.size()[..], &theirs.size()[..]) else { return Ok(None) };
    let (gray, constant) = torchvision::gray_weight(theirs)?;
    // A mean of another shape is refused later.
    let mean_of_file = found.get(mean).filter(|mean| mean.size() == constant.size());
    let adapted = mean_of_file.map(|mean| mean.f_sub(&constant)).transpose()?;
    found.insert(weight, gray);
    found.extend(adapted.map(|adapted| (mean, adapted)));
    Ok(Some(
        "initial weights: summed the first convolution over color, with ImageNet's normalization; model.input = \
         \"imagenet\" is exact at the border too"
            .to_owned(),
    ))
}

/// Takes rows of the last layer; says which, as the end of a sentence.
fn take_head(
    own: [&Tensor; 2],
    found: [Option<&Tensor>; 2],
    known: Option<&[String]>,
    classes: &[String],
) -> Result<String> {
    let [Some(weight), Some(bias)] = found else { return Ok("nothing, which the file lacks, so it is new".to_owned()) };
    let (own_shape, shape) = (own[0].size(), weight.size());
    let fits = |rows: &i64, features: &i64| own_shape.get(1) == Some(features) && bias.size() == [*rows];
    let rows = match &shape[..] {
        [rows, features] if fits(rows, features) => rows.unsigned_abs() as usize,
        _ => return Ok(format!("nothing, because its shape is {own_shape:?} and in the file {shape:?}, so it is new")),
    };
    let pairs: Vec<(usize, usize)> = match known {
        Some(known) => {
            let other = |class: &String| known.iter().position(|name| name == class).filter(|row| *row < rows);
            classes.iter().enumerate().filter_map(|(row, class)| Some((row, other(class)?))).collect()
        }
        None if rows == classes.len() => (0..rows).map(|row| (row, row)).collect(),
        None => return Ok(format!("nothing, because the file does not name its {rows} classes, so it is new")),
    };
    for (row, other) in &pairs {
        for ((own, values), name) in own.into_iter().zip([weight, bias]).zip(HEAD) {
            let (own, values) = (own.f_select(0, *row as i64)?, values.f_select(0, *other as i64)?);
            copy(&own, &values, name)?;
        }
    }
    let is_taken = |row: usize| pairs.iter().any(|(own, _)| *own == row);
    let (taken, new): (Vec<_>, Vec<_>) = classes.iter().enumerate().partition(|(row, _)| is_taken(*row));
    let names = |of: Vec<(usize, &String)>| listed(&of.into_iter().map(|(_, name)| name.clone()).collect::<Vec<_>>());
    Ok(match known {
        None => "all rows in their order, because the file does not name its classes".to_owned(),
        Some(_) if new.is_empty() => "all rows, by the names of their classes".to_owned(),
        Some(known) if taken.is_empty() => {
            format!("nothing, because it has none of the classes but {}, so it is new", listed(known))
        }
        Some(_) => format!("the rows of {}; those of {} are new", names(taken), names(new)),
    })
}

/// Names, separated by commas; of many the first ones and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MAX_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        _ if names.is_empty() => "none".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The name in the file of the tensor `name` of a network.
fn name_in_file(file: &WeightsFile, name: &str) -> String {
    let weight = file.weights.iter().find(|weight: &&Weight| weight.name == name);
    weight.map_or_else(|| name.to_owned(), |weight| short(&weight.name_in_file, 100))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::ModelConfig;
    use crate::model::resnet::ResnetConfig;
    use crate::testing::noise;
    use tch::{Device, Kind};

    fn net(classes: usize, seed: u64) -> Net {
        let resnet = ResnetConfig { stem: 8, widths: vec![8, 16], blocks: vec![1, 1], ..ResnetConfig::default() };
        Net::new(&ModelConfig::Resnet(resnet), classes, seed, Device::Cpu).unwrap()
    }

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(|class| (*class).to_owned()).collect()
    }

    /// A file with the weights of `net`.
    fn file(net: &Net, classes: Option<&[&str]>) -> WeightsFile {
        let weight = |named: NamedTensor| Weight {
            name_in_file: named.name.clone(),
            name: named.name,
            values: named.tensor.detach_copy(),
        };
        WeightsFile {
            path: PathBuf::from("x.safetensors"),
            hash: "abc".to_owned(),
            description: "a test".to_owned(),
            weights: net.named_tensors().into_iter().map(weight).collect(),
            others: vec!["a.num_batches_tracked".to_owned(), "counts".to_owned()],
            classes: classes.map(names),
            training_images: None,
        }
    }

    fn tensor(net: &Net, name: &str) -> Tensor {
        net.named_tensors().into_iter().find(|named| named.name == name).unwrap().tensor.detach_copy()
    }

    fn row(net: &Net, row: i64) -> Tensor {
        tensor(net, "output.weight").select(0, row)
    }

    #[test]
    fn rows_of_the_last_layer_are_taken_by_name() {
        let (from, to, fresh) = (net(3, 1), net(4, 2), net(4, 2));
        let file = file(&from, Some(&["sad", "angry", "happy"]));
        let notes = transfer(&to, &file, &names(&["happy", "calm", "sad", "tired"])).unwrap();
        assert!(row(&to, 0).equal(&row(&from, 2)) && row(&to, 2).equal(&row(&from, 0)));
        assert!([1, 3].into_iter().all(|kept| row(&to, kept).equal(&row(&fresh, kept))));
        assert!(tensor(&to, "stem.conv.weight").equal(&tensor(&from, "stem.conv.weight")));
        assert!(!tensor(&fresh, "stem.conv.weight").equal(&tensor(&from, "stem.conv.weight")));
        assert_eq!(notes[0], "initial weights: x.safetensors (a test), BLAKE3 abc");
        assert!(notes[1].ends_with("the rows of happy, sad; those of calm, tired are new"), "{notes:?}");
        assert!(notes[2].ends_with("not used of x.safetensors: counts, num_batches_tracked of 1 norm"), "{notes:?}");
        assert_eq!(notes.len(), 3);
    }

    #[test]
    fn a_file_without_names_of_classes_gives_its_last_layer_if_it_fits() {
        let from = net(3, 1);
        for (classes, is_taken, part) in [
            (names(&["a", "b", "c"]), true, "all rows in their order"),
            (names(&["a", "b"]), false, "nothing, because the file does not name its 3 classes"),
        ] {
            let to = net(classes.len(), 2);
            let notes = transfer(&to, &file(&from, None), &classes).unwrap();
            assert_eq!(row(&to, 0).equal(&row(&from, 0)), is_taken);
            assert!(notes[1].contains(part), "{notes:?}");
        }
        let named = file(&from, Some(&["x", "y", "z"]));
        let notes = transfer(&net(2, 2), &named, &names(&["a", "b"])).unwrap();
        assert!(
            notes[1].ends_with("nothing, because it has none of the classes but x, y, z, so it is new"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let from = net(3, 1);
        let message = |change: &dyn Fn(&mut WeightsFile)| {
            let mut file = file(&from, None);
            change(&mut file);
            let result = transfer(&net(3, 2), &file, &names(&["a", "b", "c"]));
            result.map_or_else(|error| error.to_string(), |notes| notes.join("\n"))
        };
        let stem = |file: &mut WeightsFile, values: Tensor| {
            file.weights.iter_mut().find(|weight| weight.name == "stem.conv.weight").unwrap().values = values;
        };
        let found = message(&|file| stem(file, noise(&[8, 1, 7, 7], 1)));
        assert!(
            found.contains("stem.conv.weight has the shape [8, 1, 7, 7]") && found.contains("[8, 1, 3, 3]"),
            "{found}"
        );
        let found = message(&|file| stem(file, Tensor::full([8, 1, 3, 3], f64::NAN, (Kind::Float, Device::Cpu))));
        assert!(found.contains("stem.conv.weight has values that are not finite"), "{found}");
        let found =
            message(&|file| file.weights.iter_mut().for_each(|weight| weight.name = format!("x.{}", weight.name)));
        assert!(found.contains("it has no tensor of this network") && found.contains("check model.kind"), "{found}");
        let found = message(&|file| file.weights.retain(|weight| !weight.name.starts_with("stage2.")));
        assert!(found.contains("warning: not in x.safetensors, so new: stage2.block1.conv1.weight, "), "{found}");
        let found = message(&|file| {
            file.weights.iter_mut().for_each(|weight| {
                weight.name = weight.name.replace("stage1", "stage9");
                weight.name_in_file.clone_from(&weight.name);
            })
        });
        assert!(found.contains("not used of x.safetensors: stage9.block1.conv1.weight, "), "{found}");
    }

    /// The first convolution of a color network becomes one of gray pixels.
    #[test]
    fn the_first_convolution_is_summed_over_color() {
        let from = net(3, 1);
        let mut file = file(&from, None);
        let color = noise(&[8, 3, 3, 3], 3);
        file.weights.iter_mut().find(|weight| weight.name == "stem.conv.weight").unwrap().values = color.copy();
        let to = net(3, 2);
        let notes = transfer(&to, &file, &names(&["a", "b", "c"])).unwrap();
        assert!(notes[1].contains("summed the first convolution over color"), "{notes:?}");
        let (gray, constant) = torchvision::gray_weight(&color).unwrap();
        assert!(tensor(&to, "stem.conv.weight").equal(&gray));
        let mean = tensor(&from, "stem.norm.running_mean") - constant;
        assert!(tensor(&to, "stem.norm.running_mean").equal(&mean));
    }
}
