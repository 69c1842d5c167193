//! DESIGN["src/xsk/", "src/kernel/"].iter().any(|folder| name.starts_with(folder)) ||//! DESIGN §8, held: which module may import which, and where unsafe code may live.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(under: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.ends_with("target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{under} has no sources");
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside the project").display().to_string()
}

/// Code lines, without comments and without unit tests: an item behind `#[cfg(test)]` ends where its line does, or with
/// the brace that is as far in as it is.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a source");
    let mut code = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push(line.split("//").next().unwrap_or("").to_owned());
            continue;
        }
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
        if item.is_some_and(|item| !item.ends_with(';')) {
            let end = format!("{}}}", " ".repeat(line.len() - line.trim_start().len()));
            lines.by_ref().find(|line| *line == end);
        }
    }
    code
}

/// A file that declares its tests at the top is looked at below them too.
#[test]
fn what_stands_below_tests_is_looked_at() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "use a;\n#[cfg(test)]\n#[allow(x)]\nmod tests;\nuse b; // c\n#[cfg(test)]\nmod more {\n    use d;\n    fn f() {\n    }\n}\nuse e;\n";
    std::fs::write(file.path(), text).expect("written");
    assert_eq!(code(file.path()), ["use a;", "use b; ", "use e;"]);
}

/// Every path a file names that starts at a crate: `use` lines and paths in the code.
fn mentions(path: &Path, what: &str) -> bool {
    code(path).iter().any(|line| line.contains(what))
}

#[test]
fn a_shard_imports_only_what_the_hot_path_needs() {
    const ALLOWED: [&str; 9] =
        ["xsk", "packet", "classify", "snapshot::table", "counters", "shard", "clock", "kernel::rings", "kernel::abi"];
    const FOREIGN: [&str; 10] =
        ["serde", "libbpf", "memmap2", "tracing", "clap", "std::fs", "std::net", "Mutex", "RwLock", "println"];
    for path in sources("src/shard") {
        for line in code(&path) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                assert!(
                    ALLOWED.iter().any(|allowed| rest.starts_with(allowed)),
                    "{} imports crate::{rest}",
                    name(&path)
                );
            }
        }
        for foreign in FOREIGN {
            assert!(!mentions(&path, foreign), "{} mentions {foreign}", name(&path));
        }
    }
}

#[test]
fn lower_layers_do_not_look_up() {
    let rules: [(&str, &[&str]); 9] = [
        (
            "src/xsk",
            &[
                "crate::shard",
                "crate::control",
                "crate::region",
                "crate::snapshot",
                "crate::daemon",
                "crate::kernel",
                "libbpf",
            ],
        ),
        ("src/snapshot", &["crate::shard", "crate::control", "crate::daemon", "crate::xsk", "crate::kernel", "serde"]),
        ("src/kernel", &["crate::shard", "crate::control", "crate::region", "crate::daemon", "crate::helper", "serde"]),
        (
            "src/control",
            &["crate::shard", "crate::daemon", "crate::helper", "crate::xsk", "crate::kernel", "crate::snapshot"],
        ),
        (
            "src/region",
            &["crate::shard", "crate::control", "crate::snapshot", "crate::daemon", "crate::kernel", "crate::xsk"],
        ),
        ("src/daemon", &["crate::control", "crate::helper"]),
        // What joins the two sides holds neither itself.
        ("src/helper", &["crate::shard", "crate::snapshot", "crate::kernel", "crate::xsk", "shm_layout"]),
        (
            "src/devices",
            &["crate::control", "crate::daemon", "crate::kernel", "crate::region", "crate::shard", "crate::snapshot"],
        ),
        ("shm-layout/src", &["std::fs", "libc", "memmap2", "serde"]),
    ];
    for (folder, forbidden) in rules {
        for path in sources(folder) {
            for what in forbidden {
                assert!(!mentions(&path, what), "{} mentions {what}", name(&path));
            }
        }
    }
    assert!(!mentions(&root().join("src/devices.rs"), "crate::control"), "devices.rs is for the data side too");
    for file in ["src/packet.rs", "src/classify.rs"] {
        for what in ["std::fs", "crate::xsk", "crate::kernel", "crate::shard", "crate::region"] {
            assert!(!mentions(&root().join(file), what), "{file} mentions {what}");
        }
    }
}

/// What of a module's own folder its code names: the first word behind `super::` and `crate::FOLDER::`, of several in
/// braces each.
fn named(folder: &str, code: &str) -> BTreeSet<String> {
    let from_crate = format!("crate::{folder}::");
    let behind = ["super::", &from_crate].into_iter().flat_map(|start| code.split(start).skip(1));
    let items = behind.flat_map(|rest| match rest.strip_prefix('{') {
        Some(braced) => braced.split('}').next().unwrap_or("").split(',').collect(),
        None => vec![rest],
    });
    let word =
        |item: &str| item.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().map(str::to_owned);
    items.filter_map(word).filter(|word| !word.is_empty()).collect()
}

/// A way from a module over what it imports back to itself, if there is one.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<&str>> {
    let mut left: BTreeSet<_> = imports.keys().collect();
    // What imports nothing that is left is in no circle.
    loop {
        let more: BTreeSet<_> =
            left.iter().filter(|&&of| imports[of].iter().any(|to| left.contains(to))).copied().collect();
        if more.len() == left.len() {
            break;
        }
        left = more;
    }
    let mut way = vec![*left.first()?];
    loop {
        let next = imports[way[way.len() - 1]].iter().find(|to| left.contains(to))?;
        if let Some(start) = way.iter().position(|&seen| seen == next) {
            return Some(way[start..].iter().map(|of| of.as_str()).collect());
        }
        way.push(next);
    }
}

#[test]
fn a_circle_of_imports_is_found() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    let code = "use super::a::A;\nuse super::{b, c::C};\nuse crate::shard::e;\nuse crate::xsk::f;\nlet x = super::G;";
    assert_eq!(named("shard", code), words(&["G", "a", "b", "c", "e"]));
    let found = |list: &[(&str, &[&str])]| {
        let imports = list.iter().map(|(of, to)| ((*of).to_owned(), words(to))).collect();
        circle(&imports).map(|way| way.join(" "))
    };
    assert_eq!(found(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]), None);
    assert_eq!(found(&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"]), ("d", &[])]).as_deref(), Some("b c"));
    assert_eq!(found(&[("a", &["a"])]).as_deref(), Some("a"));
}

#[test]
fn the_modules_of_a_shard_import_each_other_in_no_circle() {
    let paths = sources("src/shard");
    let modules: Vec<_> = paths.iter().map(|path| path.file_stem().expect("a file").display().to_string()).collect();
    let imports = std::iter::zip(&modules, &paths).map(|(module, path)| {
        assert!(path.parent().is_some_and(|folder| folder.ends_with("shard")), "{}: one folder", name(path));
        let named = named("shard", &code(path).join("\n")).into_iter();
        // What is no file is the folder's own, which has all the others in it.
        let to = named.map(|word| if modules.contains(&word) { word } else { "mod".to_owned() });
        let to =
            if module == "mod" { modules.iter().filter(|of| *of != "mod").cloned().collect() } else { to.collect() };
        (module.clone(), to)
    });
    let imports: BTreeMap<_, BTreeSet<_>> = imports.collect();
    assert!(imports["lanes"].contains("port"), "the search finds nothing any more");
    assert_eq!(circle(&imports), None);
}

/// Whether a SAFETY comment stands right above a line, or above the statement that the line goes on with. A comment
/// that belongs to the statement before is no reason.
fn has_reason(above: &[&str]) -> bool {
    let mut lines = above.iter().rev().map(|line| line.trim()).skip_while(|line| {
        let ends = line.ends_with([';', '{', '}', ',']) || line.is_empty();
        line.starts_with("#[") || !(ends || line.starts_with("//"))
    });
    lines.by_ref().take_while(|line| line.starts_with("//")).any(|line| line.starts_with("// SAFETY:"))
}

#[test]
fn a_reason_is_that_of_its_own_statement() {
    let lines = |text: &'static str| text.lines().collect::<Vec<_>>();
    for own in [
        "// SAFETY: so\n// and so.",
        "x();\n// SAFETY: so\nlet done =",
        "// SAFETY: so\n#[inline]",
        "// SAFETY: so\nf(a)\n.g()",
    ] {
        assert!(has_reason(&lines(own)), "{own}");
    }
    for other in [
        "",
        "// so",
        "// SAFETY: so\nx();",
        "// SAFETY: so\nx();\nlet done =",
        "// SAFETY: so\n\n// more",
        "// SAFETY: so\nif a {",
    ] {
        assert!(!has_reason(&lines(other)), "{other}");
    }
}

#[test]
fn unsafe_code_has_few_homes_and_every_block_a_reason() {
    let mut homes = 0;
    for folder in ["src", "shm-layout/src", "tools", "tests", "benches"] {
        for path in sources(folder) {
            let name = name(&path);
            // The bench calls the reader of the crate it compares with, which is an unsafe function.
            let home = name.starts_with("src/xsk/")
                || name.starts_with("src/kernel/")
                || ["src/region.rs", "benches/handoff.rs"].contains(&name.as_str());
            let text = std::fs::read_to_string(&path).expect("a source");
            let lines: Vec<_> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let line = line.split("//").next().unwrap_or("");
                let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
                if !is_unsafe.iter().any(|token| line.contains(token)) || name == "tests/layering.rs" {
                    continue;
                }
                homes += 1;
                assert!(home, "{name}:{}: unsafe code outside src/xsk, src/kernel and src/region.rs", at + 1);
                assert!(has_reason(&lines[..at]), "{name}:{}: no SAFETY reason", at + 1);
            }
        }
    }
    assert!(homes > 10, "the search finds nothing any more");
}
