//! Device B: stand-ins for NVIDIA's libraries below libtorch's own CUDA library.
//!
//! For each library that libtorch needs, symbols that are not written by hand get a stub that counts
//! its calls and returns success.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use crate::build::{cached, compiler, output, sources};
use crate::{Device, libtorch};

/// libtorch's libraries that import from NVIDIA's.
const LIBRARIES: [&str; 7] = [
    "libc10_cuda.so",
    "libcaffe2_nvrtc.so",
    "libtorch_cpu.so",
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libtorch_nvshmem.so",
    "libtorch_python.so",
];

/// The stand-in that the others are linked to.
const RUNTIME: &str = "libcudart";

const FLAGS: [&str; 4] = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden"];

/// Builds device B in `cache`, or finds it there: 10 seconds the first time, with g++, binutils and
/// the CUDA libraries and headers of PyTorch's wheel.
///
/// # Errors
/// Why it cannot be built on this machine.
pub fn device_b(cache: &Path) -> Result<Device> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/b");
    let libtorch = libtorch();
    let library = libtorch.join("lib/libtorch_cuda.so");
    ensure!(library.exists(), "{}: is missing; device B needs libtorch's build for CUDA", library.display());
    let headers = libtorch.join("../nvidia/cu13/include");
    ensure!(
        headers.join("cuda_runtime_api.h").exists(),
        "{}: has no cuda_runtime_api.h; device B needs PyTorch's wheel with the CUDA runtime",
        headers.display()
    );
    let build = |folder: &Path| Build { from: &from, headers: &headers, folder }.run(&libtorch);
    let folder = cached(cache, "b", &from, &libtorch, build)?;
    // The runtime first: the others need it. Loaded libraries satisfy those that libtorch needs.
    let mut stand_ins = files(&folder.join("lib"))?;
    stand_ins.sort_by_key(|path| !path.to_string_lossy().contains(RUNTIME));
    let preload = [folder.join("libstep.so")].into_iter().chain(stand_ins);
    let preload: Vec<String> = preload.map(|path| path.display().to_string()).collect();
    Ok(Device::new(&[("LD_PRELOAD", preload.join(":")), ("GRIMACE_CUDA_LIBRARY", library.display().to_string())]))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.sort();
    Ok(found)
}

struct Build<'a> {
    from: &'a Path,
    headers: &'a Path,
    folder: &'a Path,
}

impl Build<'_> {
    fn run(&self, libtorch: &Path) -> Result<()> {
        fs::create_dir_all(self.folder.join("lib"))?;
        let imports = Imports::of(&libtorch.join("lib"))?;
        let (runtime, others): (Vec<&String>, Vec<&String>) =
            imports.sonames.iter().partition(|soname| base(soname) == RUNTIME);
        ensure!(runtime.len() == 1, "libtorch needs {} CUDA runtimes", runtime.len());
        for soname in runtime.into_iter().chain(others) {
            self.stand_in(soname, &imports).with_context(|| format!("the stand-in for {soname}"))?;
        }
        let mut step = compiler();
        step.args(FLAGS).arg("-shared").arg(self.from.join("libstep.cpp"));
        step.arg("-o").arg(self.folder.join("libstep.so")).arg("-ldl");
        output(&mut step).map(drop)
    }

    /// Compiles the sources of one library, and stubs for what they lack.
    fn stand_in(&self, soname: &str, imports: &Imports) -> Result<()> {
        let base = base(soname);
        let mut hand_written = Vec::new();
        let (file, folder) = (self.from.join(format!("{base}.cpp")), self.from.join(base));
        if file.exists() {
            hand_written.push(file);
        }
        if folder.is_dir() {
            hand_written.extend(sources(&folder, &["cpp"])?);
        }
        let (mut objects, mut defined) = (Vec::new(), BTreeSet::new());
        for (number, file) in hand_written.iter().enumerate() {
            let object = self.folder.join(format!("{base}-{number}.o"));
            let mut compile = compiler();
            compile.args(FLAGS).arg("-I").arg(self.from.join("include")).arg("-isystem").arg(self.headers);
            compile.arg("-c").arg(file).arg("-o").arg(&object);
            output(&mut compile)?;
            let names = output(Command::new("nm").args(["--defined-only", "--extern-only"]).arg(&object))?;
            defined.extend(names.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned));
            objects.push(object);
        }
        let (version, versioned, wanted) = imports.of_library(soname);
        let mut stubs = String::from(
            "extern \"C\" int sim_stub(const char*);\n#define STUB(name) extern \"C\" \
             __attribute__((visibility(\"default\"))) int name() { return sim_stub(#name); }\n",
        );
        for name in wanted.difference(&defined) {
            writeln!(stubs, "STUB({name})")?;
        }
        let (stubs_file, map) = (self.folder.join(format!("{base}.cpp")), self.folder.join(format!("{base}.map")));
        fs::write(&stubs_file, stubs)?;
        fs::write(&map, if versioned { format!("{version} {{ global: *; }};\n") } else { "{ global: *; };\n".into() })?;
        let lib = self.folder.join("lib");
        let mut link = compiler();
        link.args(FLAGS).arg("-shared").args(&objects).arg(&stubs_file).arg("-o").arg(lib.join(soname));
        link.arg(format!("-Wl,-soname,{soname}")).arg(format!("-Wl,--version-script={}", map.display()));
        if base != RUNTIME {
            let runtime = imports.sonames.iter().find(|soname| self::base(soname) == RUNTIME);
            link.arg("-L").arg(&lib).arg(format!("-l:{}", runtime.context("libtorch needs no CUDA runtime")?));
        }
        output(&mut link).map(drop)
    }
}

/// `libcudart` of `libcudart.so.13`.
fn base(soname: &str) -> &str {
    soname.split_once(".so").map_or(soname, |(base, _)| base)
}

/// What libtorch's libraries import.
struct Imports {
    /// NVIDIA's libraries.
    sonames: BTreeSet<String>,
    /// Symbols, each with its version or an empty string.
    symbols: BTreeMap<String, String>,
}

impl Imports {
    fn of(folder: &Path) -> Result<Self> {
        let (mut sonames, mut symbols) = (BTreeSet::new(), BTreeMap::new());
        for library in LIBRARIES.map(|name| folder.join(name)).iter().filter(|path| path.exists()) {
            let needed = output(Command::new("readelf").arg("-d").arg(library))?;
            let names = needed.lines().filter(|line| line.contains("(NEEDED)"));
            let names = names.filter_map(|line| line.split_once('[')?.1.split_once(']')).map(|(name, _)| name);
            let is_nvidia = |name: &&str| ["libcu", "libnv", "libnccl"].iter().any(|start| name.starts_with(start));
            sonames.extend(names.filter(is_nvidia).map(str::to_owned));
            let undefined = output(Command::new("nm").args(["-D", "--undefined-only"]).arg(library))?;
            for symbol in undefined.lines().filter_map(|line| line.split_whitespace().last()) {
                let (name, version) = symbol.split_once('@').unwrap_or((symbol, ""));
                symbols.entry(name.to_owned()).or_insert_with(|| version.to_owned());
            }
        }
        Ok(Self { sonames, symbols })
    }

    /// The version of a library's symbols, whether any symbol has it, and the symbols that it must
    /// define.
    fn of_library(&self, soname: &str) -> (String, bool, BTreeSet<String>) {
        let base = base(soname);
        let version = if base == "libnvshmem_host" { "NVSHMEM" } else { soname };
        let has_prefix = |name: &str| match base {
            "libcuda" => name
                .strip_prefix("cu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.starts_with("File")),
            "libcufile" => name.starts_with("cuFile"),
            "libcusparseLt" => name.starts_with("cusparseLt"),
            "libnccl" => name.starts_with("nccl"),
            "libnvshmem_host" => name.starts_with("nvshmem"),
            _ => false,
        };
        let versioned = self.symbols.values().any(|found| found == version);
        let is_wanted =
            |(name, found): &(&String, &String)| found.as_str() == version || (found.is_empty() && has_prefix(name));
        let wanted = self.symbols.iter().filter(is_wanted).map(|(name, _)| name.clone()).collect();
        (version.to_owned(), versioned, wanted)
    }
}
