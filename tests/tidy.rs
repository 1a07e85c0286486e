//! The habits of this repository as tests: which room may import which, how long things get, what things are called.
//! Nothing here may need more than the checkout: no network, no git, no build. Each test prints all offenders at once.
//! A rule that is in the way is changed here and in ARCHITECTURE.md together, never worked around.

mod rooms;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// A function or file of this many lines is too long.
const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 500;
const RATCHET: &str = "tests/tidy_ratchet.txt";

/// Words that say nothing about what a thing does.
const EMPTY_WORDS: &[&str] = &[
    "inner", "manager", "managers", "handler", "handlers", "util", "utils", "common", "helper",
    "helpers", "misc",
];

/// Names that are an exception, each in its one file: users of event-driven clients look for this trait by this name.
const NAMES_OF_THE_TRADE: &[(&str, &str)] = &[("crates/evenkeel-client/src/events.rs", "Handler")];

/// What must not stand in any file; split, so that it does not stand in this one.
const WORKPLACES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const UNFINISHED: &[&str] =
    &[concat!("to", "do"), concat!("unimple", "mented"), concat!("d", "bg")];
const REGISTRIES: &[&str] = &[
    concat!("replace", "-with"),
    concat!("index", "-url"),
    concat!("CARGO_REGIS", "TRIES_"),
    concat!("GOPROXY", "="),
    concat!("arti", "factory"),
];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// One text file of the repository.
struct File {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
    /// Rust without comments and strings; empty for anything else.
    code: String,
}

impl File {
    fn at(&self, offset: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, scan::line_of(&self.text, offset))
    }

    /// The path inside `src/` without ending: `tcp/relay`, `config`, `lib`. None outside `src/`.
    fn module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        Some(path.strip_suffix("/mod").unwrap_or(path))
    }

    /// Part of a crate that we ship, not of its tests.
    fn is_source(&self) -> bool {
        self.path.ends_with(".rs")
            && (self.path.starts_with("src/")
                || (self.path.starts_with("crates/") && self.path.split('/').nth(2) == Some("src")))
    }
}

/// Every text file that git would not ignore, read once, in order of path.
fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ignore = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let ignored: Vec<_> =
            ignore.lines().map(|line| line.trim_matches('/')).chain([".git"]).collect();
        let mut found = Vec::new();
        walk(root, "", &ignored, &mut found);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    })
}

fn walk(root: &Path, folder: &str, ignored: &[&str], found: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).expect("the repository can be listed").flatten() {
        let path = format!("{folder}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().expect("a kind of file");
        if ignored.contains(&path.as_str()) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &format!("{path}/"), ignored, found);
        } else if let Some(text) =
            fs::read(entry.path()).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        {
            let code = if path.ends_with(".rs") { scan::blank(&text) } else { String::new() };
            found.push(File { path, text, code });
        }
    }
}

fn rust() -> impl Iterator<Item = &'static File> {
    files().iter().filter(|file| file.path.ends_with(".rs"))
}

/// Fails with every offender and the way out.
fn expect_none(offenders: Vec<String>, what_to_do: &str) {
    assert!(offenders.is_empty(), "\n{}\n\n{what_to_do}\n", offenders.join("\n"));
}

#[test]
fn the_balancing_crate_depends_on_nothing() {
    let path = "crates/evenkeel-balance/Cargo.toml";
    let file = files().iter().find(|file| file.path == path).expect("the crate exists");
    let is_entry = |line: &str| !line.is_empty() && !line.starts_with('#');
    let (mut within, mut offenders) = (false, Vec::new());
    for (n, line) in file.text.lines().map(str::trim).enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            within = section.contains("dependencies") && !section.contains("dev-dependencies");
        }
        if within && is_entry(line) && (!line.starts_with('[') || line.contains("dependencies.")) {
            offenders.push(format!("{path}:{}: {line}", n + 1));
        }
    }
    expect_none(
        offenders,
        "No I/O, no clock, no dependencies: what it needs to know is an argument.",
    );
}

/// What is longer than allowed: the ratchet's key, its present size, and its first line.
fn too_long() -> BTreeMap<String, (usize, usize)> {
    let mut found = BTreeMap::new();
    for file in rust() {
        let lines = file.text.lines().count() - scan::without_tests(&file.code).1;
        if lines >= FILE_LINES {
            found.insert(format!("file {}", file.path), (lines, 1));
        }
        for function in scan::functions(&file.code).iter().filter(|f| f.lines >= FUNCTION_LINES) {
            let longest = found.entry(format!("fn {} {}", file.path, function.name)).or_default();
            *longest = (function.lines, function.line).max(*longest);
        }
    }
    found
}

/// What the ratchet's list gets wrong about what is too long. A flat table is listed as `table PATH` and has no limit.
fn ratchet(list: &str, mut long: BTreeMap<String, (usize, usize)>) -> Vec<String> {
    let mut offenders = Vec::new();
    for (n, line) in
        list.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let (key, size) = match line.strip_prefix("table ") {
            Some(path) => (format!("file {path}"), None),
            None => line
                .rsplit_once(' ')
                .map_or((line.into(), None), |(k, n)| (k.into(), n.parse().ok())),
        };
        let what = match (size, long.remove(&key)) {
            (_, None) => "is short enough now, or gone: remove this line".into(),
            (Some(listed), Some((now, _))) if now > listed => {
                format!("has grown from {listed} to {now} lines: split it")
            }
            (Some(listed), Some((now, _))) if now < listed => {
                format!("has shrunk: write `{key} {now}` here")
            }
            (None, Some(_)) if !line.starts_with("table ") => {
                "has no size: KIND PATH [NAME] SIZE".into()
            }
            _ => continue,
        };
        offenders.push(format!("{RATCHET}:{}: `{line}` {what}", n + 1));
    }
    for (key, (now, line)) in &long {
        let path = key.split(' ').nth(1).unwrap_or(key);
        offenders.push(format!("{path}:{line}: {key} has {now} lines"));
    }
    offenders
}

#[test]
fn functions_and_files_only_get_shorter() {
    let list = files().iter().find(|file| file.path == RATCHET).expect("the ratchet's list");
    let what = format!(
        "A function has fewer than {FUNCTION_LINES} lines, a file fewer than {FILE_LINES} (inline tests not counted).\n\
         Split by what the parts do. {RATCHET} is for what was long before, not for what is new."
    );
    expect_none(ratchet(&list.text, too_long()), &what);
}

#[test]
fn the_ratchet_refuses_growth_and_stale_lines() {
    let size = |lines| (lines, 1);
    let long = || {
        BTreeMap::from([("fn a.rs f".to_string(), size(80)), ("file b.rs".to_string(), size(600))])
    };
    assert_eq!(ratchet("# why\nfn a.rs f 80\nfile b.rs 600\n", long()), [""; 0]);
    assert_eq!(ratchet("fn a.rs f 80\ntable b.rs\n", long()), [""; 0]);
    for wrong in [
        "fn a.rs f 79",
        "fn a.rs f 81",
        "fn a.rs f 80\nfn a.rs g",
        "",
        "fn a.rs f 80\nfile c.rs 501",
        "fn a.rs f 80\ntable c.rs",
    ] {
        assert_eq!(ratchet(&format!("file b.rs 600\n{wrong}"), long()).len(), 1, "{wrong}");
    }
}

#[test]
fn names_say_what_things_do() {
    let mut offenders = Vec::new();
    // A name of five words or more is a sentence, as tests have them, and may use any word.
    let is_empty = |name: &str| {
        let parts = scan::parts(name);
        parts.len() < 5 && parts.iter().any(|part| EMPTY_WORDS.contains(&part.as_str()))
    };
    for file in rust() {
        if file.path.trim_end_matches(".rs").split('/').any(is_empty) {
            offenders.push(format!("{}:1: name of the file", file.path));
        }
        for (at, name) in scan::names_after(
            &file.code,
            &["fn", "struct", "enum", "union", "trait", "type", "mod"],
        ) {
            let is_getter = file.code[at..].starts_with("fn") && name.starts_with("get_");
            let is_exception = NAMES_OF_THE_TRADE.contains(&(file.path.as_str(), name));
            if (is_empty(name) && !is_exception) || is_getter {
                offenders.push(file.at(at, name));
            }
        }
    }
    let words = EMPTY_WORDS.join(", ");
    expect_none(offenders, &format!("Name the job: no `get_` functions, and none of: {words}."));
}

#[test]
fn nothing_is_left_for_later() {
    let mut offenders = Vec::new();
    for file in files().iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        let markers = scan::words(&file.text).filter(|(_, word)| MARKERS.contains(word));
        offenders.extend(markers.map(|(at, word)| file.at(at, word)));
        let calls = scan::words(&file.code).filter(|(at, word)| {
            UNFINISHED.contains(word) && file.code[at + word.len()..].starts_with('!')
        });
        offenders.extend(calls.map(|(at, word)| file.at(at, &format!("{word}!"))));
    }
    expect_none(
        offenders,
        "Do it, or open an issue and say in a plain comment what is missing and why.",
    );
}

/// The files that the `mod` declarations of `file` name.
fn modules_of(file: &File) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').expect("in a folder");
    let is_root = ["lib.rs", "main.rs", "mod.rs"].contains(&name);
    let below = if is_root { folder.into() } else { file.path.trim_end_matches(".rs").to_string() };
    let mut found = Vec::new();
    for (at, module) in scan::names_after(&file.code, &["mod"]) {
        let begin = file.code[..at].rfind([';', '{', '}']).unwrap_or(0);
        let written = file.text[begin..at]
            .split("#[path = \"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        match written {
            Some(path) => found.push(resolve(folder, path)),
            None => {
                found.extend([format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")])
            }
        }
    }
    found
}

/// `path` as written in a file of `folder`, from the root of the repository.
fn resolve(folder: &str, path: &str) -> String {
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in path.split('/') {
        match step {
            "." | "" => {}
            ".." => drop(steps.pop()),
            _ => steps.push(step),
        }
    }
    steps.join("/")
}

#[test]
fn every_rust_file_is_part_of_a_crate() {
    let is_ours = |file: &&File| file.is_source() || file.path.starts_with("tests/");
    let all: BTreeMap<&str, &File> =
        rust().filter(is_ours).map(|file| (file.path.as_str(), file)).collect();
    let is_root = |path: &str| {
        path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/")
    };
    let mut due: Vec<&str> =
        all.keys().copied().filter(|path| is_root(path) || *path == "tests/main.rs").collect();
    let mut reached = BTreeSet::new();
    while let Some(path) = due.pop() {
        if reached.insert(path) {
            let modules = modules_of(all[path]);
            due.extend(
                modules
                    .iter()
                    .filter_map(|module| all.get_key_value(module.as_str()).map(|(path, _)| *path)),
            );
        }
    }
    let offenders = all
        .keys()
        .filter(|path| !reached.contains(*path))
        .map(|path| format!("{path}:1"))
        .collect();
    expect_none(
        offenders,
        "No `mod` names these, so nobody compiles them: declare or remove them.",
    );
}

#[test]
fn modules_are_looked_for_where_the_compiler_would() {
    let text = "mod a;\n#[path = \"../x/y.rs\"]\nmod b;".to_string();
    let file =
        |path: &str| File { path: path.into(), code: scan::blank(&text), text: text.clone() };
    assert_eq!(modules_of(&file("src/t/mod.rs")), ["src/t/a.rs", "src/t/a/mod.rs", "src/x/y.rs"]);
    assert_eq!(modules_of(&file("src/t.rs")), ["src/t/a.rs", "src/t/a/mod.rs", "x/y.rs"]);
}

#[test]
fn every_page_and_sample_can_be_found() {
    let mut linked = BTreeSet::from(["docs/index.md".to_string()]);
    for file in files().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let others = scan::links(&file.text).map(|target| resolve(folder, target));
        linked.extend(others.filter(|target| *target != file.path));
    }
    let is_unlinked = |path: &str| path.starts_with("docs/") && !linked.contains(path);
    let is_unmentioned = |path: &str| {
        let name = path.strip_prefix("samples/").filter(|name| name.ends_with(".toml"));
        name.is_some_and(|name| {
            !files().iter().any(|file| file.path != path && file.text.contains(name))
        })
    };
    let paths = files().iter().map(|file| file.path.as_str());
    let offenders = paths
        .filter(|path| is_unlinked(path) || is_unmentioned(path))
        .map(|path| format!("{path}:1"));
    let what = "Link a page from README.md, docs/index.md or another page; mention a sample by its name; or remove it.";
    expect_none(offenders.collect(), what);
}

#[test]
fn unsafe_lives_in_one_crate_and_says_why_it_is_sound() {
    let mut offenders = Vec::new();
    for file in rust() {
        let may = file.path.starts_with("crates/evenkeel-sys/");
        for (at, word) in scan::words(&file.code).filter(|(_, word)| *word == "unsafe") {
            let rest = file.code[at + word.len()..].trim_start();
            let is_promise = rest.starts_with('{') || rest.starts_with("impl");
            if !may {
                offenders.push(file.at(at, "unsafe outside of crates/evenkeel-sys"));
            } else if is_promise
                && !scan::has_safety_comment(&file.text, scan::line_of(&file.text, at))
            {
                offenders.push(file.at(at, "no `// SAFETY:` comment above"));
            }
        }
    }
    expect_none(
        offenders,
        "Give evenkeel-sys a safe function for it; above each block say why it is sound.",
    );
}

#[test]
fn every_file_opens_with_its_job() {
    let silent = rust().filter(|file| file.is_source() && !file.text.starts_with("//! "));
    let offenders = silent.map(|file| format!("{}:1", file.path)).collect();
    expect_none(
        offenders,
        "Begin with `//! `: its job in two sentences, what it must never do, why it is shaped so.",
    );
}

#[test]
fn no_workplace_and_no_private_registry_is_written_down() {
    let mut offenders = Vec::new();
    for file in files() {
        for place in WORKPLACES {
            offenders.extend(scan::paths(&file.text, place).map(|at| file.at(at, place)));
        }
        for word in REGISTRIES {
            offenders.extend(file.text.match_indices(word).map(|(at, _)| file.at(at, word)));
        }
        if file.path.ends_with("Cargo.lock") {
            let sources = file.text.match_indices("source = \"");
            let foreign =
                sources.filter(|(at, start)| !file.text[at + start.len()..].starts_with(CRATES_IO));
            offenders
                .extend(foreign.map(|(at, _)| file.at(at, "a package that is not from crates.io")));
        }
    }
    expect_none(
        offenders,
        "Write paths relative to the repository; take packages from crates.io only.",
    );
}
