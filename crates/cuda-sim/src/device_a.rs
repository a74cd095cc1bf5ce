//! Device A: a `libtorch_cuda.so` that makes a CUDA device of host memory.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use fs_err as fs;

use crate::build::{cached, compiler, output, sources};
use crate::{Device, libtorch};

/// Builds device A in `cache`, or finds it there: 20 seconds and g++ the first time.
///
/// # Errors
/// Why it cannot be built on this machine.
pub fn device_a(cache: &Path) -> Result<Device> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/a");
    let libtorch = libtorch();
    let folder = cached(cache, "a", &from, &libtorch, |folder| {
        // One file: the headers of libtorch take longer than the rest.
        let mut all = String::new();
        for source in sources(&from, &["cpp"])? {
            writeln!(all, "#include \"{}\"", source.display())?;
        }
        let file = folder.join("all.cpp");
        fs::write(&file, all)?;
        let (include, lib) = (libtorch.join("include"), libtorch.join("lib"));
        let mut compile = compiler();
        compile.args(["-std=c++20", "-O1", "-g0", "-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=1"]);
        compile.arg("-isystem").arg(&include).arg("-isystem").arg(include.join("torch/csrc/api/include"));
        compile.arg("-I").arg(&from).arg(&file).arg("-o").arg(folder.join("libtorch_cuda.so"));
        compile.arg("-L").arg(&lib).args(["-ltorch_cpu", "-lc10"]).arg(format!("-Wl,-rpath,{}", lib.display()));
        output(&mut compile).map(drop)
    })?;
    let library = folder.join("libtorch_cuda.so").display().to_string();
    Ok(Device::new(&[("GRIMACE_CUDA_LIBRARY", library)]))
}
