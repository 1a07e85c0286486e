//! Every config that a reader could copy, from the README, the docs and `samples/`, is one that Evenkeel takes.
//! A block of TOML without a listener is an excerpt and is passed over.

use std::path::{Path, PathBuf};

use evenkeel::Config;
use evenkeel::config::Problem;

/// The variables that the docs talk about.
fn environment(name: &str) -> Option<String> {
    match name {
        "APP_1" => Some("10.0.0.1:8080".into()),
        "APP_2" => Some("10.0.0.2:8080".into()),
        _ => None,
    }
}

#[test]
fn every_config_in_the_docs_is_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("README.zh-CN.md")];
    pages.extend(files(&root.join("docs"), "md"));
    let (mut looked_at, mut refused) = (0, Vec::new());
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        for (line, block) in blocks(&text) {
            looked_at += 1;
            if let Err(problems) = Config::parse_with(block, &environment) {
                // Certificates and users are the reader's own.
                let is_absent = |problem: &Problem| {
                    let absent = ["No such file", "there is no user"];
                    absent.iter().any(|words| problem.message.contains(words))
                };
                if problems.iter().all(is_absent) {
                    continue;
                }
                let name = page.strip_prefix(root).unwrap_or(&page).display().to_string();
                refused.push(format!("{name}, block at line {line}:\n{problems}"));
            }
        }
    }
    assert!(refused.is_empty(), "\n{}", refused.join("\n"));
    assert!(looked_at >= 5, "only {looked_at} configs were found in the docs");
}

#[test]
fn every_sample_is_accepted_without_a_warning() {
    let samples = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples"), "toml");
    assert!(!samples.is_empty());
    for sample in samples {
        let loaded = Config::from_file(&sample).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

/// The blocks of TOML that have a listener, each with the line it begins at.
fn blocks(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, start) in page.match_indices("```toml\n") {
        let rest = &page[at + start.len()..];
        let block = rest.split("```").next().unwrap_or(rest);
        if block.lines().any(|line| line.trim_start().starts_with("listen ")) {
            found.push((page[..at].lines().count() + 1, block));
        }
    }
    found
}
