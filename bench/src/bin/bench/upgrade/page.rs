//! Writes the tables into the page, between two marks, and leaves the prose around them.
//! It names machine, versions and configs, and never a path or a process's number.

use std::fs;
use std::path::Path;

use super::{Results, proxy, report};
use crate::page::{config_blocks, machine_in_words, replace};
use crate::suite::Suite;

const PAGE: &str = "docs/benchmarks-upgrade.md";
const BEGIN: &str = "<!-- upgrade results -->";
const END: &str = "<!-- /upgrade results -->";

pub fn write(results: &Results, root: &Path) -> Result<(), String> {
    let file = root.join(PAGE);
    let page = fs::read_to_string(&file).map_err(|error| format!("read the page: {error}"))?;
    let page = replace(&page, (BEGIN, END), &body(results))
        .ok_or(format!("{BEGIN} and {END} are missing"))?;
    fs::write(file, page).map_err(|error| format!("write the page: {error}"))
}

fn body(results: &Results) -> String {
    let Results { transfers, idle, upgrades, window, .. } = results;
    let mut text = format!(
        "{transfers} connections that transfer and {idle} that say a byte a second; {upgrades} upgrades in each run, one every {:.1} s.\n\n",
        window + 0.25,
    );
    text += "## Asked and reached\n\n";
    text += &report::reached(results).as_markdown();
    text += "\n## With and without\n\n";
    text += &report::evenkeel(results).as_markdown();
    text += "\n## Side by side\n\n";
    text += &format!("All of them at {:.0} KB/s.\n\n", results.rate);
    text += &report::side_by_side(results).as_markdown();
    text += &machine_in_words(&results.machine);
    let pinned = match results.pinned {
        true => "the proxy on the first cores, both ends of the connections on the rest",
        false => "the proxy and both ends of the connections share all cores",
    };
    let (threads, rounds) = (results.threads, results.rounds);
    text += &format!("{pinned}; worker threads of each proxy: {threads}. {rounds} rounds.\n");
    text += "\n## Versions\n\n| peer | version | from | told to upgrade by |\n|---|---|---|---|\n";
    for (peer, version) in &results.peers {
        let (title, origin) = (peer.title(), peer.origin(Suite::Tcp));
        text += &format!("| {title} | {version} | {origin} | {} |\n", proxy::how(*peer));
    }
    for peer in &results.absent {
        text += &format!("| {} | absent | {} | - |\n", peer.title(), peer.how_to_install());
    }
    if !results.failures.is_empty() {
        text += "\nRuns that failed:\n\n";
        let runs = results.failures.iter().filter_map(|failure| failure.split(": ").next());
        runs.for_each(|run| text += &format!("- {run}\n"));
    }
    text += "\n## Configs\n\nThe ports differ in each run.\n";
    text + &config_blocks(&results.configs)
}
