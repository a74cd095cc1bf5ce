//! Values of CPU tensors as slices.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

/// A Rust type with the memory layout of a dtype. (The trait of tch 0.24 maps `half::bf16` to float16.)
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

/// The numbers of a tensor in the order of its dimensions, without a copy.
///
/// While the slice is in use nothing may change the tensor, or one that shares its memory, in place.
///
/// # Errors
/// When the tensor is not on the CPU, has another dtype, or is not contiguous.
pub fn slice<T: TensorElement>(tensor: &Tensor) -> Result<&[T]> {
    check::<T>(tensor)?;
    // SAFETY: the tensor is alive as long as the slice, holds `numel` values of `T` one after another (checked above), and a
    // pointer that libtorch gives for a nonempty tensor is aligned for its dtype.
    Ok(match tensor.numel() {
        0 => &[],
        count => unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), count) },
    })
}

/// The numbers of a tensor that is being filled.
///
/// While the slice is in use nothing may read or change a tensor that shares its memory.
///
/// # Errors
/// As [`slice()`].
pub fn slice_mut<T: TensorElement>(tensor: &mut Tensor) -> Result<&mut [T]> {
    check::<T>(tensor)?;
    // SAFETY: as in `slice`; the exclusive borrow keeps this handle from being used meanwhile.
    Ok(match tensor.numel() {
        0 => &mut [],
        count => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), count) },
    })
}

fn check<T: TensorElement>(tensor: &Tensor) -> Result<()> {
    if tensor.device() != Device::Cpu || tensor.f_kind()? != T::KIND || !tensor.is_contiguous() {
        bail!("expected a contiguous CPU tensor of {:?}, found {tensor:?}", T::KIND);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_the_tensor_itself() {
        let mut tensor = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        slice_mut::<f32>(&mut tensor).unwrap()[3] = 7.0;
        assert_eq!(slice::<f32>(&tensor).unwrap(), [1.0, 2.0, 3.0, 7.0]);
        assert!(slice::<i64>(&tensor).is_err(), "another dtype");
        assert!(slice::<f32>(&tensor.transpose(0, 1)).is_err(), "not in the order of its dimensions");
        assert!(slice::<f32>(&Tensor::from_slice(&[0f32; 0])).unwrap().is_empty());
        let tensor = Tensor::from_slice(&[1.0f32, -2.5]).to_kind(Kind::BFloat16);
        assert_eq!(slice::<half::bf16>(&tensor).unwrap(), [half::bf16::from_f32(1.0), half::bf16::from_f32(-2.5)]);
    }
}
