//! The layering of `src`: a module imports only from modules that `src/lib.rs` lists before it.

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
