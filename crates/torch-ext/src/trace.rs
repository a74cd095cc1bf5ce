//! Tracing: a forward function, recorded as a TorchScript module or as a list of operations.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::take_text;

type Forward = extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor) -> c_int;
type Visit = extern "C" fn(*mut c_void, *const c_char, *const RawOperand, usize, i64, *const i64, usize);

unsafe extern "C" {
    fn grimace_trace_module(
        path: *const c_char,
        names: *const *const c_char,
        tensors: *const *mut C_tensor,
        buffers: *const bool,
        count: usize,
        example: *mut C_tensor,
        context: *mut c_void,
        forward: Forward,
        extra_names: *const *const c_char,
        extra_texts: *const *const c_char,
        extra_count: usize,
    ) -> *mut c_char;
    fn grimace_trace_operations(
        names: *const *const c_char,
        tensors: *const *mut C_tensor,
        buffers: *const bool,
        count: usize,
        example: *mut C_tensor,
        context: *mut c_void,
        forward: Forward,
        visitor: *mut c_void,
        visit: Visit,
    ) -> *mut c_char;
}

/// A tensor of a traced module with its dotted name (`block1.conv.weight`).
#[derive(Debug)]
pub struct NamedTensor<'a> {
    /// Dotted name; every component but the last becomes a submodule.
    pub name: &'a str,
    /// The tensor, which `forward` must read through a handle to the same data.
    pub tensor: &'a Tensor,
    /// Whether it is a buffer (running statistics) rather than a parameter.
    pub buffer: bool,
}

struct Call<'a> {
    forward: &'a dyn Fn(&Tensor) -> Result<Tensor>,
    error: Option<anyhow::Error>,
}

extern "C" fn run_forward(context: *mut c_void, input: *mut C_tensor, output: *mut *mut C_tensor) -> c_int {
    // SAFETY: `context` is the `Call` that `trace_module` keeps alive and does not access
    // meanwhile.
    let call = unsafe { &mut *context.cast::<Call>() };
    // SAFETY: the shim passes a live tensor, and this creates a second handle to it.
    let input = unsafe { Tensor::clone_from_ptr(input) };
    match catch_unwind(AssertUnwindSafe(|| (call.forward)(&input))) {
        Ok(Ok(mut result)) => {
            // SAFETY: `output` is valid for writes; the shim takes ownership of the tensor.
            unsafe { *output = result.as_mut_ptr() };
            std::mem::forget(result);
            0
        }
        Ok(Err(error)) => {
            call.error = Some(error);
            1
        }
        Err(_) => {
            call.error = Some(anyhow!("the forward function panicked"));
            1
        }
    }
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{text:?} contains a NUL byte"))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}

/// The arrays of tensors that the shim reads.
struct Registered {
    names: Vec<*const c_char>,
    tensors: Vec<*mut C_tensor>,
    buffers: Vec<bool>,
    /// What `names` points to.
    _texts: Vec<CString>,
}

impl Registered {
    fn new(tensors: &[NamedTensor<'_>]) -> Result<Self> {
        let texts = tensors.iter().map(|named| c_text(named.name)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            names: pointers(&texts),
            tensors: tensors.iter().map(|named| named.tensor.as_ptr().cast_mut()).collect(),
            buffers: tensors.iter().map(|named| named.buffer).collect(),
            _texts: texts,
        })
    }
}

impl Call<'_> {
    /// The error of the forward function, or else that of the shim.
    fn finish(self, failure: Option<String>) -> Result<()> {
        match (self.error, failure) {
            (Some(error), _) => Err(error),
            (None, Some(reason)) => Err(anyhow!(reason)),
            (None, None) => Ok(()),
        }
    }
}

/// Traces `forward` on `example` and saves it at `path` as a TorchScript module.
///
/// `tensors` are registered under their names as parameters or buffers, so that `state_dict()`
/// lists them and `.to()` moves them. Any other tensor that `forward` reads becomes a constant of
/// the graph. `forward` runs in no-grad mode. `extra` are named strings stored in the file.
///
/// # Errors
/// If `forward` fails, or libtorch cannot trace or write.
pub fn trace_module(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    example: &Tensor,
    forward: &dyn Fn(&Tensor) -> Result<Tensor>,
    extra: &[(&str, &str)],
) -> Result<()> {
    let registered = Registered::new(tensors)?;
    let path = c_text(path.to_str().context("the path is not UTF-8, which TorchScript requires")?)?;
    let extra_names = extra.iter().map(|(name, _)| c_text(name)).collect::<Result<Vec<_>>>()?;
    let extra_texts = extra.iter().map(|(_, text)| c_text(text)).collect::<Result<Vec<_>>>()?;
    let (extra_name_pointers, extra_text_pointers) = (pointers(&extra_names), pointers(&extra_texts));
    let mut call = Call { forward, error: None };
    // SAFETY: every array has the length passed with it and outlives the call. The shim only reads
    // the tensors. `call` is accessed only by the callback until the function returns.
    let failure = take_text(unsafe {
        grimace_trace_module(
            path.as_ptr(),
            registered.names.as_ptr(),
            registered.tensors.as_ptr(),
            registered.buffers.as_ptr(),
            tensors.len(),
            example.as_ptr().cast_mut(),
            (&raw mut call).cast(),
            run_forward,
            extra_name_pointers.as_ptr(),
            extra_text_pointers.as_ptr(),
            extra.len(),
        )
    });
    call.finish(failure)
}

/// An operation of a traced function, such as `aten::conv2d`.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Name with its namespace.
    pub name: String,
    /// Operands in the order of libtorch's signature.
    pub operands: Vec<Operand>,
    /// Number of its output value.
    pub output: i64,
    /// Shape of its output for the example.
    pub shape: Vec<i64>,
}

/// An operand of an [`Operation`].
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// An optional operand that is absent.
    None,
    /// The output of an earlier operation; 0 is the input of the function.
    Value(i64),
    /// A registered tensor, by name.
    Tensor(String),
    /// An integer, dtypes and devices included.
    Int(i64),
    /// A number; a constant tensor of one value is one too.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A string.
    Text(String),
}

/// The layout of `grimace_operand` in trace.cpp.
#[repr(C)]
struct RawOperand {
    kind: i32,
    integer: i64,
    number: f64,
    text: *const c_char,
    list: *const i64,
    count: usize,
}

impl RawOperand {
    /// # Safety
    /// The pointers must be valid as trace.cpp promises for `kind`.
    unsafe fn read(&self) -> Option<Operand> {
        // SAFETY: the shim sets the text of kinds 2 and 7, and the list of kind 6.
        let text = || unsafe { CStr::from_ptr(self.text) }.to_string_lossy().into_owned();
        Some(match self.kind {
            0 => Operand::None,
            1 => Operand::Value(self.integer),
            2 => Operand::Tensor(text()),
            3 => Operand::Int(self.integer),
            4 => Operand::Float(self.number),
            5 => Operand::Bool(self.integer != 0),
            6 if self.count == 0 => Operand::Ints(Vec::new()),
            // SAFETY: as above.
            6 => Operand::Ints(unsafe { std::slice::from_raw_parts(self.list, self.count) }.to_vec()),
            7 => Operand::Text(text()),
            _ => return None,
        })
    }
}

extern "C" fn visit_operation(
    context: *mut c_void,
    name: *const c_char,
    operands: *const RawOperand,
    count: usize,
    output: i64,
    shape: *const i64,
    dimensions: usize,
) {
    // SAFETY: `context` is the list that `trace_operations` keeps alive and does not access
    // meanwhile; the shim passes a string and arrays of these lengths that live until this returns.
    let (found, name, operands, shape) = unsafe {
        let operands = if count == 0 { &[] } else { std::slice::from_raw_parts(operands, count) };
        let shape = if dimensions == 0 { &[] } else { std::slice::from_raw_parts(shape, dimensions) };
        (&mut *context.cast::<Vec<Operation>>(), CStr::from_ptr(name), operands, shape.to_vec())
    };
    // SAFETY: the operands are the shim's.
    let operands = operands.iter().map(|operand| unsafe { operand.read() }.unwrap_or(Operand::None)).collect();
    found.push(Operation { name: name.to_string_lossy().into_owned(), operands, output, shape });
}

/// Traces `forward` on `example` and returns its operations in order, with the number of the value
/// that it returns. Dead code is left out. Tensors of `tensors` are operands by name.
///
/// # Errors
/// If `forward` fails, reads another tensor of more than one value, or does what cannot be
/// recorded as operations on tensors with constant arguments.
pub fn trace_operations(
    tensors: &[NamedTensor<'_>],
    example: &Tensor,
    forward: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<(Vec<Operation>, i64)> {
    let registered = Registered::new(tensors)?;
    let mut call = Call { forward, error: None };
    let mut operations: Vec<Operation> = Vec::new();
    // SAFETY: every array has the length passed with it and outlives the call. The shim only reads
    // the tensors. `call` and `operations` are accessed only by the callbacks until the function
    // returns.
    let failure = take_text(unsafe {
        grimace_trace_operations(
            registered.names.as_ptr(),
            registered.tensors.as_ptr(),
            registered.buffers.as_ptr(),
            tensors.len(),
            example.as_ptr().cast_mut(),
            (&raw mut call).cast(),
            run_forward,
            (&raw mut operations).cast(),
            visit_operation,
        )
    });
    call.finish(failure)?;
    let result = operations.pop().context("the trace has no result")?;
    Ok((operations, result.output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn operations_name_tensors_and_constants() {
        let weight = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        let tensors = [NamedTensor { name: "layer.weight", tensor: &weight, buffer: false }];
        let example = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
        let forward = |x: &Tensor| Ok(x.f_mul_scalar(0.5)?.f_linear(&weight, None::<Tensor>)?.f_flatten(0, -1)?);
        let (operations, result) = trace_operations(&tensors, &example, &forward).unwrap();
        let names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
        assert_eq!(names, ["aten::mul", "aten::linear", "aten::flatten"]);
        let [scale, linear, flatten] = &operations[..] else { panic!("{operations:?}") };
        assert_eq!(scale.operands, [Operand::Value(0), Operand::Float(0.5)]);
        let weight = Operand::Tensor("layer.weight".into());
        assert_eq!(linear.operands, [Operand::Value(scale.output), weight, Operand::None]);
        assert_eq!(flatten.operands, [Operand::Value(linear.output), Operand::Int(0), Operand::Int(-1)]);
        assert_eq!((result, &flatten.shape[..]), (flatten.output, &[8][..]));
    }

    #[test]
    fn errors_of_the_forward_function_are_returned() {
        let example = Tensor::ones([1], (Kind::Float, Device::Cpu));
        let message = trace_operations(&[], &example, &|_| Err(anyhow!("no"))).unwrap_err().to_string();
        assert_eq!(message, "no");
        let unnamed = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let message = trace_operations(&[], &example, &|x| Ok(x.f_add(&unnamed)?)).unwrap_err().to_string();
        assert!(message.contains("not a number"), "{message}");
    }
}
