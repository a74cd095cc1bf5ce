//! Translation of a traced network to ONNX: one node, or a few, per operation of libtorch.
//!
//! The graph follows what the network's own code does, so an architecture, TTA and ensembles are
//! written once. An operation that is missing here is an error that names it.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::{Kind, Tensor};
use torch_ext::{NamedTensor, Operand, Operation};

use super::graph::{Graph, INPUT, OUTPUT, float, float_tensor, int, int64_tensor, ints, string};
use super::proto::AttributeProto;

/// Number of float32 in the dtypes of libtorch.
const FLOAT32: i64 = 6;

/// Translates `operations`, of which the value `result` is the output. Tensors keep their names.
///
/// # Errors
/// An operation or an operand that has no translation.
pub fn translate(operations: &[Operation], result: i64, tensors: &[NamedTensor<'_>]) -> Result<Graph> {
    let mut translator = Translator {
        graph: Graph::default(),
        values: HashMap::from([(0, INPUT.to_owned())]),
        sizes: HashMap::new(),
        tensors: tensors.iter().map(|named| (named.name, named.tensor)).collect(),
    };
    translator.graph.unused_name(INPUT);
    for operation in operations {
        let value =
            translator.operation(operation).with_context(|| format!("{} cannot be written as ONNX", operation.name))?;
        translator.values.insert(operation.output, value);
        if let [_, _, height, width] = operation.shape[..] {
            translator.sizes.insert(operation.output, (height, width));
        }
    }
    let output = translator.value(&Operand::Value(result))?;
    let mut graph = translator.graph;
    graph.rename_value(&output, OUTPUT);
    Ok(graph)
}

struct Translator<'a> {
    graph: Graph,
    /// Names of the values by their numbers.
    values: HashMap<i64, String>,
    /// Heights and widths of the values.
    sizes: HashMap<i64, (i64, i64)>,
    tensors: HashMap<&'a str, &'a Tensor>,
}

impl Translator<'_> {
    /// Adds the nodes of `operation` and returns the name of its output.
    fn operation(&mut self, operation: &Operation) -> Result<String> {
        let operands = &operation.operands[..];
        let name = operation.name.strip_prefix("aten::").unwrap_or(&operation.name);
        match (name, operands) {
            // The dtype of a weight, which is float32, as the pixels are.
            ("type_as", [x, _]) => self.value(x),
            ("to", [x, Operand::Int(FLOAT32), ..]) => self.value(x),
            ("mul", [x, y]) => self.binary("Mul", x, y),
            ("div", [x, y]) => self.binary("Div", x, y),
            ("add", [x, y, Operand::Int(1)]) => self.binary("Add", x, y),
            ("_convolution", [x, weight, bias, rest @ ..]) => self.convolution([x, weight, bias], rest),
            ("linear", [x, weight, bias]) => self.weighted("Gemm", &[x, weight, bias], vec![int("transB", 1)]),
            ("batch_norm", [x, weight, bias, mean, variance, Operand::Bool(false), _, Operand::Float(epsilon), _]) => {
                self.weighted(
                    "BatchNormalization",
                    &[x, weight, bias, mean, variance],
                    vec![float("epsilon", *epsilon)],
                )
            }
            ("relu", [x]) => self.unary("Relu", x, vec![]),
            ("sigmoid", [x]) => self.unary("Sigmoid", x, vec![]),
            ("leaky_relu", [x, slope]) => {
                let slope = number(slope)?;
                self.unary("LeakyRelu", x, vec![float("alpha", slope)])
            }
            ("elu", [x, alpha, scale, input_scale]) => {
                ensure!(number(scale)? == 1.0 && number(input_scale)? == 1.0, "only a scale of 1 is supported");
                let alpha = number(alpha)?;
                self.unary("Elu", x, vec![float("alpha", alpha)])
            }
            ("gelu", [x, Operand::Text(kind)]) if kind == "none" => self.erf_gelu(x),
            ("silu", [x]) => {
                let sigmoid = self.unary("Sigmoid", x, vec![])?;
                let x = self.value(x)?;
                Ok(self.graph.add("Mul", "mul", vec![x, sigmoid], vec![]))
            }
            ("max_pool2d" | "avg_pool2d", [x, rest @ ..]) => self.pooling(name, x, rest),
            ("flatten", [x, Operand::Int(1), Operand::Int(-1)]) => self.unary("Flatten", x, vec![int("axis", 1)]),
            ("unsqueeze", [x, Operand::Int(axis)]) => {
                let axes = self.constant("axes", int64_tensor(&[*axis]));
                let x = self.value(x)?;
                Ok(self.graph.add("Unsqueeze", "unsqueeze", vec![x, axes], vec![]))
            }
            ("softmax", [x, Operand::Int(axis), _]) => self.unary("Softmax", x, vec![int("axis", *axis)]),
            // From the last element to the one before the first; runtimes clamp the end.
            ("flip", [x, Operand::Ints(axes)]) if axes.len() == 1 => self.slice(x, -1, i64::from(i32::MIN), axes, -1),
            ("narrow", [x, Operand::Int(axis), Operand::Int(start), Operand::Int(length)]) => {
                self.slice(x, *start, start + length, &[*axis], 1)
            }
            ("upsample_bilinear2d", [x, Operand::Ints(_), Operand::Bool(false), ..]) => self.resize(x, operation),
            _ => bail!("with the operands {operands:?}"),
        }
    }

    /// The name of a value or tensor.
    fn value(&mut self, operand: &Operand) -> Result<String> {
        match operand {
            Operand::Value(number) => {
                self.values.get(number).cloned().with_context(|| format!("value {number} is not computed"))
            }
            Operand::Tensor(name) => {
                if self.graph.tensor(name).is_none() {
                    let tensor =
                        self.tensors.get(name.as_str()).with_context(|| format!("there is no tensor {name}"))?;
                    let values: Vec<f32> =
                        Vec::try_from(tensor.f_to_dtype(Kind::Float, false, false)?.f_flatten(0, -1)?)?;
                    self.graph.set_tensor(name, float_tensor(&tensor.size(), &values));
                }
                Ok(name.clone())
            }
            Operand::Float(_) | Operand::Int(_) => {
                let value = number(operand)?;
                Ok(self.constant("constant", float_tensor(&[], &[value as f32])))
            }
            Operand::None => Ok(String::new()),
            other => Err(anyhow!("{other:?} is not a tensor")),
        }
    }

    fn constant(&mut self, name: &str, tensor: super::proto::TensorProto) -> String {
        let name = self.graph.unused_name(name);
        self.graph.set_tensor(&name, tensor);
        name
    }

    /// Adds a node that is named after its weight: `block1.conv` of `block1.conv.weight`.
    fn weighted(&mut self, operator: &str, operands: &[&Operand], attributes: Vec<AttributeProto>) -> Result<String> {
        let weight = operands.iter().find_map(|operand| match operand {
            Operand::Tensor(name) => name.rsplit_once('.').map(|(layer, _)| layer.to_owned()),
            _ => None,
        });
        let name = weight.context("the weight is computed")?;
        let mut inputs = operands.iter().map(|operand| self.value(operand)).collect::<Result<Vec<_>>>()?;
        while inputs.pop_if(|input| input.is_empty()).is_some() {}
        Ok(self.graph.add(operator, &name, inputs, attributes))
    }

    fn unary(&mut self, operator: &str, x: &Operand, attributes: Vec<AttributeProto>) -> Result<String> {
        let x = self.value(x)?;
        Ok(self.graph.add(operator, &operator.to_lowercase(), vec![x], attributes))
    }

    fn binary(&mut self, operator: &str, x: &Operand, y: &Operand) -> Result<String> {
        let inputs = vec![self.value(x)?, self.value(y)?];
        Ok(self.graph.add(operator, &operator.to_lowercase(), inputs, vec![]))
    }

    /// `rest`: stride, padding, dilation, whether transposed, output padding, groups, and settings
    /// of cuDNN.
    fn convolution(&mut self, operands: [&Operand; 3], rest: &[Operand]) -> Result<String> {
        let [
            Operand::Ints(stride),
            Operand::Ints(padding),
            Operand::Ints(dilation),
            Operand::Bool(false),
            _,
            Operand::Int(group),
            ..,
        ] = rest
        else {
            bail!("with the operands {rest:?}")
        };
        let Operand::Tensor(weight) = operands[1] else { bail!("the weight is computed") };
        let size = self.tensors.get(weight.as_str()).with_context(|| format!("there is no tensor {weight}"))?.size();
        let [_, _, height, width] = size[..] else { bail!("the weight {weight} has the shape {size:?}") };
        let [top, left] = both(padding)?;
        let attributes = vec![
            ints("dilations", &both(dilation)?),
            int("group", *group),
            ints("kernel_shape", &[height, width]),
            ints("pads", &[top, left, top, left]),
            ints("strides", &both(stride)?),
        ];
        self.weighted("Conv", &operands, attributes)
    }

    /// `rest` of max pooling: kernel, stride, padding, dilation, whether the size is rounded up; of
    /// average pooling: kernel, stride, padding, the same, whether padding counts, the divisor.
    /// Padding is never the maximum in either format.
    fn pooling(&mut self, name: &str, x: &Operand, rest: &[Operand]) -> Result<String> {
        let [Operand::Ints(kernel), Operand::Ints(stride), Operand::Ints(padding), rest @ ..] = rest else {
            bail!("with the operands {rest:?}")
        };
        let is_plain = match rest {
            [Operand::Ints(dilation), Operand::Bool(false)] => dilation.iter().all(|dilation| *dilation == 1),
            [Operand::Bool(false), Operand::Bool(_), Operand::None] => true,
            _ => false,
        };
        let [top, left] = both(padding)?;
        let is_padded = (top, left) != (0, 0);
        let is_max = name == "max_pool2d";
        ensure!(is_plain && (is_max || !is_padded), "with the operands {padding:?}, {rest:?}");
        let mut attributes = vec![ints("kernel_shape", &both(kernel)?), ints("strides", &both(stride)?)];
        if is_padded {
            attributes.push(ints("pads", &[top, left, top, left]));
        }
        self.unary(if is_max { "MaxPool" } else { "AveragePool" }, x, attributes)
    }

    /// x (1 + erf(x / sqrt(2))) / 2; the operator Gelu is of operator set 20.
    fn erf_gelu(&mut self, x: &Operand) -> Result<String> {
        let x = self.value(x)?;
        let mut constant = |value: f64| self.value(&Operand::Float(value));
        let (root, one, half) = (constant(std::f64::consts::SQRT_2)?, constant(1.0)?, constant(0.5)?);
        let scaled = self.graph.add("Div", "div", vec![x.clone(), root], vec![]);
        let erf = self.graph.add("Erf", "erf", vec![scaled], vec![]);
        let sum = self.graph.add("Add", "add", vec![erf, one], vec![]);
        let product = self.graph.add("Mul", "mul", vec![x, sum], vec![]);
        Ok(self.graph.add("Mul", "mul", vec![product, half], vec![]))
    }

    fn slice(&mut self, x: &Operand, start: i64, end: i64, axes: &[i64], step: i64) -> Result<String> {
        let x = self.value(x)?;
        let starts = self.constant("starts", int64_tensor(&[start]));
        let ends = self.constant("ends", int64_tensor(&[end]));
        let axes = self.constant("axes", int64_tensor(axes));
        let steps = self.constant("steps", int64_tensor(&[step]));
        Ok(self.graph.add("Slice", "slice", vec![x, starts, ends, axes, steps], vec![]))
    }

    /// Bilinear resizing with the pixel centers of `align_corners=False`. The factors are those of
    /// the sizes, because the batch size, which `sizes` would need, varies.
    fn resize(&mut self, x: &Operand, operation: &Operation) -> Result<String> {
        let (Operand::Value(input), [_, _, height, width]) = (x, &operation.shape[..]) else {
            bail!("to the shape {:?}", operation.shape)
        };
        let input_name = self.value(x)?;
        let (from_height, from_width) = *self.sizes.get(input).context("of an unknown size")?;
        let factor = |to: i64, from: i64| (to as f64 / from as f64) as f32;
        let factors = [1.0, 1.0, factor(*height, from_height), factor(*width, from_width)];
        let scales = self.constant("scales", float_tensor(&[4], &factors));
        let attributes = vec![string("coordinate_transformation_mode", "half_pixel"), string("mode", "linear")];
        Ok(self.graph.add("Resize", "resize", vec![input_name, String::new(), scales], attributes))
    }
}

/// The values for height and width, of which libtorch accepts one for both.
fn both(values: &[i64]) -> Result<[i64; 2]> {
    match *values {
        [both] => Ok([both, both]),
        [height, width] => Ok([height, width]),
        _ => Err(anyhow!("{values:?} is not a height and a width")),
    }
}

/// A constant number.
fn number(operand: &Operand) -> Result<f64> {
    match operand {
        Operand::Int(value) => Ok(*value as f64),
        Operand::Float(value) => Ok(*value),
        other => Err(anyhow!("{other:?} is not a number")),
    }
}
