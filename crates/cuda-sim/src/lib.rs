//! Two simulated CUDA devices, on which the unmodified program runs without a GPU.
//!
//! | | what runs | what it shows |
//! | --- | --- | --- |
//! | [`device_a`] | a `libtorch_cuda.so` of our own: device memory is host memory, every operation runs libtorch's CPU kernel | results, mixed devices, CUDA graphs |
//! | [`device_b`] | libtorch's own `libtorch_cuda.so` on stand-ins for NVIDIA's libraries that count and compute nothing | kernels that exist, launches, copies, synchronizations, memory, errors of the driver |
//!
//! Neither shows what a real kernel computes or how long it takes. On B device memory cannot be read
//! by the host, and everything that is copied back from it is 0.
//!
//! Both are compiled with g++ when they are first needed, into a folder that is used again. Variables
//! of the environment configure them:
//!
//! | variable | device | meaning |
//! | --- | --- | --- |
//! | `CUDA_SIM_REPORT` | A, B | JSON file with the counts of the process; `%p` becomes its id |
//! | `CUDA_SIM_DEVICES` | A, B | number of devices, by default 1 |
//! | `CUDA_SIM_MEMORY` | A, B | bytes of each device |
//! | `CUDA_SIM_CAPABILITY` | A, B | compute capability, such as 75; by default 90 |
//! | `CUDA_SIM_GRAPH` | A, B | `refuse`: graphs cannot be captured; on A also `wrong`: replays compute something else |
//! | `CUDA_SIM_TF32` | A | 1: convolutions that allow TF32 round like it |
//! | `CUDA_SIM_ERROR` | B | error of `cudaGetDeviceCount`: 35, 100 or 999 |
//! | `CUDA_SIM_DRIVER` | B | CUDA version of the driver, such as 12040 |
//! | `CUDA_SIM_NO_IMAGE` | B | 1: there is no kernel image for the device |
//!
//! The report counts by segments: one before the first training step, and one for each step, which
//! begins when the program seeds libtorch's generator.

mod build;
mod device_a;
mod device_b;

use std::path::{Path, PathBuf};

pub use device_a::device_a;
pub use device_b::device_b;

/// A simulated device, built.
#[derive(Debug, Clone)]
pub struct Device {
    environment: Vec<(String, String)>,
}

impl Device {
    /// The variables of the environment with which a program runs on the device.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    fn new(environment: &[(&str, String)]) -> Self {
        // Two pools of OpenMP threads, of autograd's thread and the main one, would spin against each
        // other.
        let common = [("OMP_NUM_THREADS", "1".to_owned()), ("OMP_WAIT_POLICY", "passive".to_owned())];
        let all = common.iter().chain(environment);
        Self { environment: all.map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
    }
}

/// The folder in which simulated devices are built and found again: in cargo's target folder.
pub fn default_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from).join("cuda-sim")
}

/// The folder of libtorch: `LIBTORCH`, or `.venv/libtorch`.
fn libtorch() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/libtorch");
    let folder = std::env::var_os("LIBTORCH").map_or(own, PathBuf::from);
    folder.canonicalize().unwrap_or(folder)
}
