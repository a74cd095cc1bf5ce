//! Function multiversioning: loops that the compiler vectorizes, compiled once per instruction set.
//! Kernels with vectors of their own are tasks of the crate `simd` instead.

/// `multiversion! { fn name<E: Bound>(arguments) = body }` defines `name`, which calls the inlined
/// function `body` compiled for the best instruction set of this processor.
macro_rules! multiversion {
    (fn $name:ident $(<$generic:ident: $bound:path>)? ($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        fn $name $(<$generic: $bound>)? ($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            fn avx512 $(<$generic: $bound>)? ($($argument: $type),*) {
                $body($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$generic: $bound>)? ($($argument: $type),*) {
                $body($($argument),*);
            }
            match crate::isa() {
                // SAFETY: `isa` reports only instruction sets that the processor has.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Some(crate::Isa::Avx512) => unsafe { avx512($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                Some(crate::Isa::Avx2) => unsafe { avx2($($argument),*) },
                // NEON is part of the target.
                _ => $body($($argument),*),
            }
        }
    };
}

pub(crate) use multiversion;
