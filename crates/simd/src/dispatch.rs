//! The instruction sets, and running a task with one of them.

use crate::portable::Portable;
use crate::{Bf16Vector, Vector};

/// An instruction set that tasks are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// aarch64.
    Neon,
}

impl Isa {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Neon];

    /// The best instruction set of this processor; `None` if it has none of them.
    pub fn detect() -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.is_available())
    }

    /// Whether this processor has the instruction set.
    #[inline]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                use std::arch::is_x86_feature_detected as has;
                has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && Self::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
        }
    }
}

/// Work that is generic over vectors.
pub trait Task {
    /// What the work returns.
    type Output;
    /// Does it. Implementations are `#[inline(always)]`, and so is what they call.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Work with dot products of bfloat16 pairs.
pub trait Bf16Task {
    /// What the work returns.
    type Output;
    /// Does it, as [`Task::run`].
    fn run<V: Bf16Vector>(self) -> Self::Output;
}

/// Runs `task` compiled for `isa`; as plain Rust if that is `None` or this processor lacks it.
#[inline]
pub fn run<T: Task>(isa: Option<Isa>, task: T) -> T::Output {
    match isa.filter(|isa| isa.is_available()) {
        // SAFETY: the processor has the instruction set, as checked.
        #[cfg(target_arch = "x86_64")]
        Some(Isa::Avx512) => unsafe { x86::avx512(task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Some(Isa::Avx2) => unsafe { x86::avx2(task) },
        #[cfg(target_arch = "aarch64")]
        Some(Isa::Neon) => task.run::<crate::neon::Neon>(),
        _ => task.run::<Portable>(),
    }
}

/// Whether `isa` is one for [`run_bf16`] and this processor has its instructions: AVX-512 BF16.
#[inline]
pub fn has_bf16(isa: Option<Isa>) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa == Some(Isa::Avx512) {
        return Isa::Avx512.is_available() && std::arch::is_x86_feature_detected!("avx512bf16");
    }
    let _ = isa;
    false
}

/// Runs `task` with instructions for bfloat16, and returns it if [`has_bf16`] is false.
///
/// # Errors
/// The task, which has not run.
pub fn run_bf16<T: Bf16Task>(isa: Option<Isa>, task: T) -> Result<T::Output, T> {
    if !has_bf16(isa) {
        return Err(task);
    }
    // SAFETY: the processor has the instructions, as checked.
    #[cfg(target_arch = "x86_64")]
    return Ok(unsafe { x86::avx512_dot(task) });
    #[cfg(not(target_arch = "x86_64"))]
    Err(task)
}

/// Runs `task` as [`run`] does, but rounds to bfloat16 with single instructions if [`has_bf16`].
pub fn run_with_bf16<T: Task>(isa: Option<Isa>, task: T) -> T::Output {
    // SAFETY: the processor has the instructions, as checked.
    #[cfg(target_arch = "x86_64")]
    if has_bf16(isa) {
        return unsafe { x86::avx512_bf16(task) };
    }
    run(isa, task)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Bf16Task, Task};
    use crate::avx2::Avx2;
    use crate::avx512::Avx512;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512<T: Task>(task: T) -> T::Output {
        task.run::<Avx512<false>>()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) fn avx512_bf16<T: Task>(task: T) -> T::Output {
        task.run::<Avx512<true>>()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) fn avx512_dot<T: Bf16Task>(task: T) -> T::Output {
        task.run::<Avx512<true>>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2<T: Task>(task: T) -> T::Output {
        task.run::<Avx2>()
    }
}
