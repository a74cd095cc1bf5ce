//! Compiles the shim against the libtorch that torch-sys found, and exports its library folder as
//! `DEP_TORCH_EXT_LIBTORCH_LIB`.

#![allow(clippy::expect_used)] // a build script reports errors by panicking

use std::env;
use std::path::PathBuf;

fn main() {
    for file in
        ["shim.cpp", "autograd.cpp", "cuda.cpp", "fused.cpp", "group.cpp", "profile.cpp", "trace.cpp", "guarded.h"]
    {
        println!("cargo:rerun-if-changed=src/{file}");
    }
    println!("cargo:rerun-if-changed=src/gloo_declarations");
    println!("cargo:rerun-if-changed=build.rs");
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys sets DEP_TCH_LIBTORCH_LIB"));
    let root = lib.parent().expect("libtorch's lib folder has a parent").to_path_buf();
    println!("cargo:libtorch_lib={}", lib.display());
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files([
            "src/shim.cpp",
            "src/autograd.cpp",
            "src/cuda.cpp",
            "src/fused.cpp",
            "src/group.cpp",
            "src/profile.cpp",
            "src/trace.cpp",
        ]);
    // libtorch for Linux has Gloo, unless it was built without.
    let is_linux = env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    if is_linux && root.join("include/torch/csrc/distributed/c10d/ProcessGroupGloo.hpp").exists() {
        build.define("GRIMACE_GLOO", None).include("src/gloo_declarations");
    } else {
        println!("cargo:warning=this libtorch has no Gloo: training in several processes is not available");
    }
    // libtorch's thread pool is OpenMP's. Without it `at::parallel_for` runs in the calling thread.
    let openmp = build.get_compiler().is_like_gnu() && is_linux;
    if openmp {
        build.flag("-fopenmp");
    } else {
        println!(
            "cargo:warning=without g++ on Linux the CPU kernels run in one thread; build with CXX=g++ to use all threads"
        );
    }
    build.compile("grimace_torch_ext");
    println!("cargo:rustc-link-search=native={}", lib.display());
    // For the tests of this crate; programs set their own run path.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    if openmp {
        // The run path finds libtorch's copy, so that the process has one thread pool.
        println!("cargo:rustc-link-lib=gomp");
    }
    if is_linux {
        println!("cargo:rustc-link-lib=dl");
    }
}
