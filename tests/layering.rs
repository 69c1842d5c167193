//! DESIGN §8, held: which module may import which, and where unsafe code may live.
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
    const ALLOWED: [&str; 11] = [
        "xsk",
        "packet",
        "checksum",
        "segment",
        "classify",
        "snapshot::table",
        "counters",
        "shard",
        "clock",
        "kernel::rings",
        "kernel::abi",
    ];
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
    for file in ["src/packet.rs", "src/checksum.rs", "src/segment.rs", "src/classify.rs"] {
        for what in ["std::fs", "crate::xsk", "crate::kernel", "crate::shard", "crate::region"] {
            assert!(!mentions(&root().join(file), what), "{file} mentions {what}");
        }
    }
}

/// What code names behind `start`, the beginning of a path: of several in braces each.
fn items_behind<'a>(code: &'a str, start: &str) -> Vec<&'a str> {
    let is_whole = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || ['_', ':'].contains(&c));
    let behind = code.match_indices(start).filter(|(at, _)| is_whole(*at)).map(|(at, _)| &code[at + start.len()..]);
    behind.flat_map(|rest| rest.strip_prefix('{').map_or_else(|| vec![rest], in_braces)).collect()
}

/// The word that an item begins with.
fn first_word(item: &str) -> &str {
    let item = item.trim_start();
    item.split(|c: char| !(c.is_alphanumeric() || ['_', '*'].contains(&c))).next().unwrap_or("")
}

/// The names that an item of an import comes to.
fn names_of(item: &str) -> Vec<&str> {
    match item.split_once('{') {
        Some((_, braced)) => in_braces(braced).into_iter().flat_map(names_of).collect(),
        None => vec![first_word(item.split([':', ' ']).rfind(|word| !word.trim().is_empty()).unwrap_or(""))],
    }
}

/// The items of a list up to its closing brace, each with the braces of its own.
fn in_braces(list: &str) -> Vec<&str> {
    let (mut deep, mut from, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => deep += 1,
            '}' if deep > 0 => deep -= 1,
            '}' | ',' if deep == 0 => {
                items.push(&list[from..at]);
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

/// A folder of modules, each a file with the folder of its name. What no module has is the folder's own, `mod`.
struct Folder {
    /// How a path to a module begins that starts at the crate.
    path: String,
    /// The code of each, and how many folders deep that lies: 1 for the module's file.
    modules: BTreeMap<String, Vec<(usize, String)>>,
}

impl Folder {
    fn of(folder: &str) -> Folder {
        let (_, within) = folder.rsplit_once("src").expect("in a crate");
        let path = format!("crate{}::", within.replace('/', "::"));
        let mut modules: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        let beside = root().join(format!("{folder}.rs"));
        for file in sources(folder).into_iter().chain([beside].into_iter().filter(|file| file.exists())) {
            let inside = file.strip_prefix(root().join(folder)).map_or(Vec::new(), |inside| inside.iter().collect());
            let module = inside.first().map_or("mod", |first| first.to_str().expect("a name").trim_end_matches(".rs"));
            let is_own = ["mod", "lib", "main"].contains(&module);
            // Tests that are a file, and programs of the crate.
            if file.ends_with("tests.rs") || module == "bin" {
                continue;
            }
            let deep = inside.len() - usize::from(file.ends_with("mod.rs") && inside.len() > 1);
            let module = if is_own { "mod" } else { module };
            modules.entry(module.to_owned()).or_default().push((deep, code(&file).join("\n")));
        }
        Folder { path, modules }
    }

    /// What each module imports of the others, and of the folder's own where that is no more than passed on.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let own = self.modules.get("mod").map_or("", |files| files[0].1.as_str());
        let children = || self.modules.keys().filter(|module| *module != "mod");
        let (mut passed, mut used) = (BTreeMap::new(), BTreeSet::new());
        for statement in own.split(';').map(|statement| statement.replace("self::", "")) {
            let is_import = statement.contains("use ");
            let is_passed = is_import && statement.trim_start().starts_with("pub");
            for child in children() {
                let items = items_behind(&statement, &format!("{child}::"));
                if !items.is_empty() && !is_passed {
                    used.insert(child.clone());
                }
                let names = items.iter().filter(|_| is_import).flat_map(|item| names_of(item));
                passed.extend(names.map(|name| (name.to_owned(), child.clone())));
            }
        }
        let mut imports = BTreeMap::from([("mod".to_owned(), used)]);
        for module in children() {
            let mut to = BTreeSet::new();
            for (deep, code) in &self.modules[module] {
                let starts = [self.path.clone(), "super::".repeat(*deep)];
                for word in starts.iter().flat_map(|start| items_behind(code, start)).map(first_word) {
                    assert_ne!(word, "*", "{module} imports all of its folder");
                    match passed.get(word) {
                        _ if ["", "super", module].contains(&word) => false,
                        _ if self.modules.contains_key(word) => to.insert(word.to_owned()),
                        Some(of) => to.insert(of.clone()),
                        None => to.insert("mod".to_owned()),
                    };
                }
            }
            to.remove(module);
            imports.insert(module.clone(), to);
        }
        imports
    }
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
    let found = |list: &[(&str, &[&str])]| {
        let imports = list.iter().map(|(of, to)| ((*of).to_owned(), words(to))).collect();
        circle(&imports).map(|way| way.join(" "))
    };
    assert_eq!(found(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]), None);
    assert_eq!(found(&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"]), ("d", &[])]).as_deref(), Some("b c"));
    assert_eq!(found(&[("a", &["a"])]).as_deref(), Some("a"));
}

#[test]
fn what_modules_of_a_folder_import_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().join("src/x");
    std::fs::create_dir_all(folder.join("b")).expect("folders");
    for (file, text) in [
        ("mod.rs", "mod a;\nmod b;\nmod c;\npub use b::{B, deep::{C as D}};\nfn own() -> a::A {}\nuse crate::y::Y;"),
        ("a.rs", "use super::D;\nuse super::super::c;\nuse crate::y::c;\nuse crate::x::b;"),
        ("b.rs", "mod deep;\nuse deep::c;\n#[cfg(test)]\nmod tests {\n    use super::super::c;\n}\n"),
        ("b/deep.rs", "use super::c;\nlet a = super::super::a::A;\n// super::super::c"),
        ("b/tests.rs", "use super::super::c;"),
        ("c.rs", "use crate::x::{B, a::{b, c}};\nsuper::own();"),
    ] {
        std::fs::write(folder.join(file), text).expect("written");
    }
    let imports = Folder::of(folder.to_str().expect("a path")).imports();
    let found: Vec<_> = imports.iter().map(|(of, to)| (of.as_str(), to.iter().map(String::as_str).collect())).collect();
    let wanted: [(&str, Vec<&str>); 4] =
        [("a", vec!["b"]), ("b", vec!["a"]), ("c", vec!["a", "b", "mod"]), ("mod", vec!["a"])];
    assert_eq!(found, wanted);
}

#[test]
fn modules_of_a_folder_import_each_other_in_no_circle() {
    for folder in [
        "src",
        "src/control",
        "src/control/admission",
        "src/control/json",
        "src/control/junos",
        "src/control/serve",
        "src/control/state",
        "src/helper",
        "src/region",
        "src/shard",
        "src/snapshot",
        "src/xsk",
        "shm-layout/src",
        "tools/lab/src",
        "tools/spanbench/src",
        "tools/spanbench/src/wire",
        "tools/spanctl/src",
        "tools/spanctl/src/stats",
    ] {
        let imports = Folder::of(folder).imports();
        assert!(imports.values().any(|to| !to.is_empty()), "{folder}: the search finds nothing any more");
        assert_eq!(circle(&imports), None, "{folder}");
    }
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
            let home = ["src/xsk/", "src/kernel/", "src/region/", "benches/handoff.rs"]
                .iter()
                .any(|home| name.starts_with(home));
            let text = std::fs::read_to_string(&path).expect("a source");
            let lines: Vec<_> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let line = line.split("//").next().unwrap_or("");
                let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
                if !is_unsafe.iter().any(|token| line.contains(token)) || name == "tests/layering.rs" {
                    continue;
                }
                homes += 1;
                assert!(home, "{name}:{}: unsafe code outside src/xsk, src/kernel and src/region", at + 1);
                assert!(has_reason(&lines[..at]), "{name}:{}: no SAFETY reason", at + 1);
            }
        }
    }
    assert!(homes > 10, "the search finds nothing any more");
}
