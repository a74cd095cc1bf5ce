//! Sets the rpath, so that the fuzz targets find libtorch without LD_LIBRARY_PATH: link arguments
//! of torch-sys do not propagate to this crate.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TORCH_EXT_LIBTORCH_LIB");
    if let Ok(lib) = std::env::var("DEP_TORCH_EXT_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
