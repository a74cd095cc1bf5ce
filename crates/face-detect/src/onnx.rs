//! Reads the weights out of an ONNX file: the layers in order, each with its constant inputs.
//!
//! Only the few fields that the network needs are read; see onnx.proto for their numbers. What the
//! layers are connected to is known, so that only their order and shapes are checked.

use std::collections::HashMap;

use crate::Error;

/// A constant: its shape, and its values in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A node of the graph that has constant inputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    /// The name of the operator, such as `Conv`.
    pub(crate) operator: String,
    /// The constant inputs, in order.
    pub(crate) constants: Vec<Tensor>,
}

/// Returns the layers with constants of the model in `bytes`, in the order in which they run.
pub(crate) fn layers(bytes: &[u8]) -> Result<Vec<Layer>, Error> {
    let mut constants = HashMap::new();
    let mut nodes = Vec::new();
    for (_, graph) in messages(bytes).filter(|&(number, _)| number == 7) {
        for (number, field) in messages(graph) {
            match number {
                1 => nodes.push(field),
                5 => constants.extend(tensor(field)?),
                _ => {}
            }
        }
    }
    let layers = nodes.into_iter().map(|node| layer(node, &constants));
    Ok(layers.filter(|layer| !layer.constants.is_empty()).collect())
}

fn layer(node: &[u8], constants: &HashMap<&[u8], Tensor>) -> Layer {
    let mut layer = Layer { operator: String::new(), constants: Vec::new() };
    for (number, field) in messages(node) {
        match number {
            1 => layer.constants.extend(constants.get(field).cloned()),
            4 => layer.operator = String::from_utf8_lossy(field).into_owned(),
            _ => {}
        }
    }
    layer
}

/// Reads a float32 tensor and its name; `None` if it is of another type.
fn tensor(message: &[u8]) -> Result<Option<(&[u8], Tensor)>, Error> {
    const FLOAT: u64 = 1;
    let (mut name, mut raw, mut shape) = (&[][..], Vec::new(), Vec::new());
    for field in Fields(message) {
        match (field.number, field.value) {
            (1, Value::Number(size)) => shape.push(size),
            (1, Value::Bytes(mut packed)) => {
                while let Some(size) = varint(&mut packed) {
                    shape.push(size);
                }
            }
            (2, Value::Number(kind)) if kind != FLOAT => return Ok(None),
            (8, Value::Bytes(bytes)) => name = bytes,
            // 4: a list of floats, packed or not; 9: raw bytes. All are little-endian.
            (4 | 9, Value::Bytes(bytes)) => raw.extend_from_slice(bytes),
            _ => {}
        }
    }
    let shape = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect::<Vec<_>>();
    let size = shape.iter().try_fold(4usize, |product, &size| product.checked_mul(size));
    if size != Some(raw.len()) {
        return Err(Error::Weights(format!("the tensor {} does not fill its shape", String::from_utf8_lossy(name))));
    }
    let (values, _) = raw.as_chunks::<4>();
    let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(Some((name, Tensor { shape, values })))
}

/// The fields of `message` that are messages, strings or bytes.
fn messages(message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    Fields(message).filter_map(|field| match field.value {
        Value::Bytes(bytes) => Some((field.number, bytes)),
        Value::Number(_) => None,
    })
}

struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Iterates over the fields of a protobuf message; ends at its end or at the first damaged field.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => Value::Bytes(take(&mut self.0, 8)?),
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => Value::Bytes(take(&mut self.0, 4)?),
            _ => return None,
        };
        Some(Field { number: tag >> 3, value })
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a field that holds bytes.
    pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(bytes);
        out
    }

    fn model() -> Vec<u8> {
        let raw: Vec<u8> = [1.0f32, -2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = [vec![1 << 3, 2], field(8, b"w"), field(9, &raw)].concat();
        let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"Conv")].concat();
        let relu = [field(1, b"y"), field(4, b"Relu")].concat();
        field(7, &[field(1, &node), field(1, &relu), field(5, &tensor)].concat())
    }

    #[test]
    fn layers_come_with_their_constants() {
        let layers = layers(&model()).unwrap();
        let w = Tensor { shape: vec![2], values: vec![1.0, -2.5] };
        assert_eq!(layers, [Layer { operator: "Conv".into(), constants: vec![w] }]);
    }

    #[test]
    fn damaged_files_give_an_error_or_nothing() {
        let model = model();
        for end in 0..model.len() {
            assert!(layers(&model[..end]).map_or(true, |layers| layers.is_empty()));
        }
        for at in 0..model.len() {
            for value in [0, 0x7f, 0xff] {
                let mut copy = model.clone();
                copy[at] = value;
                let _ = layers(&copy);
            }
        }
    }
}
