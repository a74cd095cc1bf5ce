//! Values of CPU tensors as slices.

use std::marker::PhantomData;

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use crate::grimace_is_unique;

/// A Rust type with the memory layout of a dtype. (The trait of tch 0.24 maps `half::bf16` to
/// float16.)
///
/// # Safety
/// A value must have the memory layout of an element of a tensor of dtype `KIND`.
pub unsafe trait TensorElement: Copy + Send + Sync + 'static {
    /// The dtype.
    const KIND: Kind;
}

// SAFETY of all: the same formats and sizes, by definition of the dtypes.
unsafe impl TensorElement for u8 {
    const KIND: Kind = Kind::Uint8;
}
unsafe impl TensorElement for i64 {
    const KIND: Kind = Kind::Int64;
}
unsafe impl TensorElement for f32 {
    const KIND: Kind = Kind::Float;
}
unsafe impl TensorElement for f64 {
    const KIND: Kind = Kind::Double;
}
unsafe impl TensorElement for half::bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// Borrows the values of a contiguous CPU tensor, without a copy.
///
/// In-place operations on any handle to the same memory must wait until the slice is dropped;
/// neither Rust nor libtorch checks this.
///
/// # Errors
/// If the tensor is not on the CPU, has another dtype, or is not contiguous.
pub fn slice<T: TensorElement>(tensor: &Tensor) -> Result<&[T]> {
    check::<T>(tensor, tensor.is_contiguous())?;
    // SAFETY: the borrow keeps the tensor alive. `check` found `numel` adjacent values of `T`, and
    // libtorch's pointer to a nonempty tensor is aligned for its dtype.
    Ok(match tensor.numel() {
        0 => &[],
        count => unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), count) },
    })
}

/// Mutably borrows the values of a contiguous CPU tensor whose memory no other handle shares.
///
/// # Errors
/// As for [`slice()`], and if the memory is shared: with a clone or a view of the tensor (or the
/// tensor that it is a view of), or with a tensor that autograd has saved. See [`make_unique`].
pub fn slice_mut<T: TensorElement>(tensor: &mut Tensor) -> Result<&mut [T]> {
    let is_contiguous = tensor.is_contiguous();
    unique_slice_mut(tensor, is_contiguous)
}

/// Mutably borrows the values of a CPU tensor [N, C, H, W] in channels-last memory format, in the
/// order [N, H, W, C].
///
/// # Errors
/// As for [`slice_mut`], with contiguous in channels-last memory format.
pub fn channels_last_slice_mut<T: TensorElement>(tensor: &mut Tensor) -> Result<&mut [T]> {
    let is_channels_last = tensor.dim() == 4 && tensor.f_permute([0, 2, 3, 1])?.is_contiguous();
    unique_slice_mut(tensor, is_channels_last)
}

/// Returns `tensor` if no other handle shares its memory, or a copy of it.
pub fn make_unique(tensor: Tensor) -> Result<Tensor> {
    if is_unique(&tensor) { Ok(tensor) } else { Ok(tensor.f_detach()?.f_detach_copy()?) }
}

/// A range of a tensor's memory, for updates in place where other handles share the memory.
///
/// Elements are read and written one by one and never borrowed, as libtorch's in-place operations
/// do, so the rule of [`slice()`] applies: no slice of the memory may be in use.
pub struct InPlaceChunk<'a, T> {
    start: *mut T,
    length: usize,
    tensor: PhantomData<&'a mut Tensor>,
}

// SAFETY: the elements are `Send`, and chunks of one tensor do not overlap.
unsafe impl<T: TensorElement> Send for InPlaceChunk<'_, T> {}

/// Splits the memory of a contiguous CPU tensor into chunks of `size` elements; the last may be
/// shorter.
///
/// # Errors
/// As for [`slice()`].
pub fn in_place_chunks<T: TensorElement>(tensor: &mut Tensor, size: usize) -> Result<Vec<InPlaceChunk<'_, T>>> {
    check::<T>(tensor, tensor.is_contiguous())?;
    let (start, count) = (tensor.data_ptr().cast::<T>(), tensor.numel());
    let chunk = |first: usize| InPlaceChunk {
        // SAFETY: `first` is below `numel`, the number of adjacent values of `T`.
        start: unsafe { start.add(first) },
        length: size.min(count - first),
        tensor: PhantomData,
    };
    Ok((0..count).step_by(size.max(1)).map(chunk).collect())
}

impl InPlaceChunk<'_, f32> {
    /// Replaces all elements.
    ///
    /// # Panics
    /// If there are more or fewer values.
    pub fn write(&mut self, values: &[f32]) {
        assert_eq!(values.len(), self.length, "one value per element");
        for (index, value) in values.iter().enumerate() {
            // SAFETY: inside the chunk, which the exclusive borrow of the tensor keeps alive.
            unsafe { self.start.add(index).write(*value) }
        }
    }

    /// Subtracts `values` from the elements that begin at `first`.
    ///
    /// # Panics
    /// If they reach beyond the end of the chunk.
    pub fn subtract(&mut self, first: usize, values: &[f32]) {
        assert!(first <= self.length && values.len() <= self.length - first, "beyond the end of the chunk");
        for (index, value) in values.iter().enumerate() {
            // SAFETY: inside the chunk, which the exclusive borrow of the tensor keeps alive.
            unsafe {
                let element = self.start.add(first + index);
                element.write(element.read() - value);
            }
        }
    }
}

fn unique_slice_mut<T: TensorElement>(tensor: &mut Tensor, is_dense: bool) -> Result<&mut [T]> {
    check::<T>(tensor, is_dense)?;
    if !is_unique(tensor) {
        bail!("the memory of {tensor:?} is shared with another tensor; expected a tensor with memory of its own");
    }
    // SAFETY: as in `slice`. This handle is the only one to the memory, and the exclusive borrow
    // prevents its use, and with it the creation of another handle, as long as the slice lives.
    Ok(match tensor.numel() {
        0 => &mut [],
        count => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), count) },
    })
}

/// Whether `tensor` is the only handle to its memory: Rust's and autograd's both count.
fn is_unique(tensor: &Tensor) -> bool {
    // SAFETY: a live tensor, which is only read.
    unsafe { grimace_is_unique(tensor.as_ptr()) }
}

fn check<T: TensorElement>(tensor: &Tensor, is_dense: bool) -> Result<()> {
    if tensor.device() != Device::Cpu || tensor.f_kind()? != T::KIND || !is_dense {
        bail!("expected a contiguous CPU tensor of {:?}, found {tensor:?}", T::KIND);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Tensor {
        Tensor::arange(4, (Kind::Float, Device::Cpu)).reshape([2, 2]).copy()
    }

    #[test]
    fn slices_are_the_memory_of_the_tensor() {
        let mut tensor = matrix();
        slice_mut::<f32>(&mut tensor).unwrap()[3] = 7.0;
        assert_eq!(slice::<f32>(&tensor).unwrap(), [0.0, 1.0, 2.0, 7.0]);
        assert!(slice::<i64>(&tensor).is_err(), "another dtype");
        assert!(slice::<f32>(&tensor.transpose(0, 1)).is_err(), "not contiguous");
        assert!(slice::<f32>(&Tensor::from_slice(&[0f32; 0])).unwrap().is_empty());
        assert!(slice_mut::<f32>(&mut Tensor::from_slice(&[0f32; 0])).unwrap().is_empty());
        let tensor = Tensor::from_slice(&[1.0f32, -2.5]).to_kind(Kind::BFloat16);
        assert_eq!(slice::<half::bf16>(&tensor).unwrap(), [half::bf16::from_f32(1.0), half::bf16::from_f32(-2.5)]);
    }

    #[test]
    fn chunks_update_shared_memory_in_place() {
        let mut tensor = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0]);
        let view = tensor.narrow(0, 2, 3);
        let mut chunks = in_place_chunks::<f32>(&mut tensor, 3).unwrap();
        assert_eq!(chunks.iter().map(|chunk| chunk.length).collect::<Vec<_>>(), [3, 2]);
        chunks[0].subtract(1, &[0.5, 1.5]);
        chunks[1].write(&[0.0, 7.0]);
        drop(chunks);
        assert_eq!(slice::<f32>(&tensor).unwrap(), [1.0, 1.5, 1.5, 0.0, 7.0]);
        assert_eq!(slice::<f32>(&view).unwrap(), [1.5, 0.0, 7.0]);
        assert!(in_place_chunks::<i64>(&mut tensor, 3).is_err(), "another dtype");
    }

    #[test]
    #[should_panic(expected = "beyond the end")]
    fn chunks_check_their_length() {
        let mut tensor = Tensor::from_slice(&[1.0f32, 2.0]);
        in_place_chunks::<f32>(&mut tensor, 2).unwrap()[0].subtract(1, &[0.0, 0.0]);
    }

    #[test]
    fn channels_last_slices_are_in_nhwc_order() {
        let options = (Kind::Float, Device::Cpu);
        let mut tensor = Tensor::empty_strided([1, 2, 1, 3], [6, 1, 6, 2], options);
        channels_last_slice_mut::<f32>(&mut tensor).unwrap().copy_from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let values = Vec::<f32>::try_from(tensor.contiguous().flatten(0, -1)).unwrap();
        assert_eq!(values, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert!(channels_last_slice_mut::<f32>(&mut Tensor::zeros([1, 2, 1, 3], options)).is_err());
        assert!(channels_last_slice_mut::<f32>(&mut Tensor::zeros([2, 3], options)).is_err());
    }

    #[test]
    fn shared_memory_has_no_mutable_slice() {
        let is_refused = |tensor: &mut Tensor| {
            let error = slice_mut::<f32>(tensor).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("shared with another tensor"), "{error}");
        };
        let mut tensor = matrix();
        for mut other in [tensor.shallow_clone(), tensor.detach(), tensor.view([4])] {
            is_refused(&mut tensor);
            is_refused(&mut other);
        }
        assert!(slice_mut::<f32>(&mut tensor).is_ok(), "the other handles are gone");
        is_refused(&mut matrix().view([4]));

        // Autograd saves the factors of a product for its backward pass.
        let factor = matrix().set_requires_grad(true);
        let mut saved = matrix();
        let product = &factor * &saved;
        is_refused(&mut saved);
        drop(product);
        assert!(slice_mut::<f32>(&mut saved).is_ok());
    }

    #[test]
    fn make_unique_copies_shared_memory_only() {
        let tensor = matrix();
        let address = tensor.data_ptr();
        let tensor = make_unique(tensor).unwrap();
        assert_eq!(tensor.data_ptr(), address);
        let mut copy = make_unique(tensor.shallow_clone()).unwrap();
        slice_mut::<f32>(&mut copy).unwrap()[0] = 9.0;
        assert_eq!(slice::<f32>(&tensor).unwrap()[0], 0.0);
    }
}
