//! Rules for the sources that neither rustc nor clippy checks: a module imports only from modules that
//! `src/lib.rs` lists before it, and tensor operations return their errors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::text;

/// Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Top-level modules that follow `crate::` in the code of a file, without its tests. Those of a
/// group, `crate::{a, b::{c, d}}`, are a and b.
fn imports(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let first_name = |path: &str| path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.push(&rest[..first_name(rest)]),
            Some(group) => {
                names.extend(group_paths(group).into_iter().map(str::trim_start).map(|path| &path[..first_name(path)]));
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The paths of a group of imports, up to its closing brace: separated by commas outside inner
/// groups.
fn group_paths(group: &str) -> Vec<&str> {
    let (mut paths, mut start, mut depth) = (Vec::new(), 0, 0);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.push(&group[start..index]);
                start = index + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

#[test]
fn imports_of_groups_are_found() {
    let source = "use crate::cli;\nuse crate::{device, forest::{self, tree}, metrics as m};\nuse crate::{\n    data::csv,\n    \
                  model,\n};\nfn f() -> crate::util::error::Outcome {}\n#[cfg(test)]\nmod tests { use crate::sweep; }";
    assert_eq!(imports(source), ["cli", "device", "forest", "metrics", "data", "model", "util"]);
    // A group with a later module is a violation.
    let files = [("data".to_owned(), "use crate::{util::rng, forest};".to_owned())];
    assert_eq!(violations(&["util", "data", "forest"], &files), [("data", "forest")]);
}

/// Imports of a later module: (importing module, imported module).
fn violations<'a>(order: &[&'a str], files: &'a [(String, String)]) -> Vec<(&'a str, &'a str)> {
    let position = |module: &str| order.iter().position(|name| *name == module);
    let mut found = Vec::new();
    for (module, source) in files {
        let later = |import: &&str| position(import).zip(position(module)).is_some_and(|(to, from)| to > from);
        found.extend(imports(source).into_iter().filter(later).map(|import| (module.as_str(), import)));
    }
    found
}

#[test]
fn modules_import_only_from_those_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = text(src.join("lib.rs"));
    let order: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(order.starts_with(&["util"]) && order.ends_with(&["cli"]), "{order:?}");
    let files: Vec<(String, String)> = sources(&src)
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .filter_map(|path| {
            let module = path.strip_prefix(&src).unwrap().iter().next().unwrap().to_str().unwrap().to_owned();
            order.contains(&module.as_str()).then(|| (module, text(&path)))
        })
        .collect();
    assert!(files.len() > 100, "{} files", files.len());
    assert_eq!(violations(&order, &files), []);
    // The check can fail: with the order reversed nearly every import is a violation.
    let reversed: Vec<&str> = order.iter().rev().copied().collect();
    assert!(violations(&reversed, &files).len() > 100);
}

/// Modules whose tensor operations must return their errors.
const FALLIBLE: [&str; 5] = ["model", "optim", "transforms", "inference", "export"];

/// Names of tensor methods that are also those of numbers, iterators, slices or `nn::Path`.
const AMBIGUOUS: [&str; 15] =
    ["abs", "add", "all", "eq", "flatten", "get", "kind", "max", "min", "pow", "round", "sqrt", "sub", "sum", "view"];

/// A file's code without comments and tests.
fn code(source: &str) -> String {
    let lines = source.lines().take_while(|line| *line != "#[cfg(test)]");
    lines.map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect()
}

/// Names of methods that are called in `code`, after a dot or after `Tensor::`.
fn calls(code: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = code.match_indices('.').chain(code.match_indices("Tensor::")).map(|(at, found)| at + found.len());
    let names = starts.filter_map(|start| {
        let rest = &code[start..];
        let end = rest.find(|c| !is_name(c))?;
        rest[end..].starts_with('(').then_some(&rest[..end])
    });
    names.collect()
}

/// Calls of methods that have a variant in `fallible`, which is called by the prefix `f_`.
fn panicking_calls<'a>(code: &'a str, fallible: &BTreeSet<String>) -> Vec<&'a str> {
    calls(code).into_iter().filter(|name| fallible.contains(*name) && !AMBIGUOUS.contains(name)).collect()
}

/// tch panics on an error of libtorch (out of memory, a wrong shape) unless the method begins with
/// `f_`. Knows the methods that are called with that prefix anywhere in `src`; operators such as `*`
/// cannot be told from those of numbers.
#[test]
fn tensor_methods_return_their_errors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(PathBuf, String)> = sources(&src)
        .into_iter()
        .filter(|path| path.to_str().is_some_and(|path| !path.ends_with("tests.rs") && !path.ends_with("testing.rs")))
        .map(|path| (path.strip_prefix(&src).unwrap().to_owned(), code(&text(&path))))
        .collect();
    let prefixed = files.iter().flat_map(|(_, code)| calls(code)).filter_map(|name| name.strip_prefix("f_"));
    let mut fallible: BTreeSet<String> = prefixed.map(str::to_owned).collect();
    fallible.extend(["backward", "double_value", "int64_value", "set_requires_grad", "to_kind"].map(str::to_owned));
    assert!(fallible.len() > 50, "{fallible:?}");
    let is_checked = |path: &Path| FALLIBLE.iter().any(|module| path.starts_with(module));
    let found: Vec<String> = files
        .iter()
        .filter(|(path, _)| is_checked(path))
        .flat_map(|(path, code)| {
            let names = panicking_calls(code, &fallible).into_iter();
            names.map(move |name| format!("src/{}: {name}() panics; call f_{name}()?", path.display()))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The check can fail.
    let source = "fn f(x: &Tensor) -> Tensor {\n    // x.relu()\n    x.narrow(0, 0, 1)\n}\n#[cfg(test)]\nx.relu()\n";
    assert_eq!(panicking_calls(&code(source), &fallible), ["narrow"]);
}
