//! Writes the results into the page of the suite, between two marks, and leaves the prose around them.
//! The page names machine, versions and configs; it never names a host or a path.

use std::fs;
use std::path::Path;

use crate::machine::Machine;
use crate::results::{Results, ShownConfig};
use crate::suite::Words;
use crate::tables;

/// Replaces what stands between the marks; a page without them is an error, a missing one is made.
pub fn write(results: &Results, root: &Path) -> Result<(), String> {
    let words = results.suite.words();
    let Words { begin, end, .. } = words;
    let file = root.join(words.page);
    let page = fs::read_to_string(&file).unwrap_or(format!("# Benchmarks\n\n{begin}\n{end}\n"));
    let page = replace(&page, (begin, end), &body(results))
        .ok_or(format!("{begin} and {end} are missing"))?;
    fs::write(file, page).map_err(|error| format!("write the page: {error}"))
}

pub fn replace(page: &str, (begin, end): (&str, &str), body: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{body}\n{end}{after}"))
}

fn body(results: &Results) -> String {
    let mut text = String::from("## Asked and reached\n\n");
    text += &tables::reached(results).as_markdown();
    text += "\nA ratio is the median of Evenkeel over the median of the peer named beside it.\n";
    for (name, title, measures) in results.suite.groups() {
        let overviews: Vec<String> = results
            .threads
            .iter()
            .filter_map(|&threads| tables::overview(results, threads, measures))
            .map(|table| table.as_markdown())
            .collect();
        if overviews.is_empty() {
            continue;
        }
        text += &format!("\n## {title}\n\n![{title}](img/bench-{name}.svg)\n\n");
        if measures.iter().any(|measure| measure.is_latency()) {
            text += &rates(results);
        }
        text += &overviews.join("\n");
        text += &details(results, measures);
    }
    text + &machine(results) + &versions(results) + &configs(results)
}

fn rates(results: &Results) -> String {
    let counted = results.suite.words().counted;
    let each = results.latency_rates.iter().map(|(&threads, rate)| {
        format!("{rate:.0} {counted} with {}", tables::threads_in_words(threads))
    });
    let each: Vec<String> = each.collect();
    format!("At half of what the slowest peer carries: {}.\n\n", each.join(", "))
}

fn details(results: &Results, measures: &[crate::measure::Measure]) -> String {
    let mut text = String::from("\n<details><summary>Spread of the rounds</summary>\n");
    for &threads in &results.threads {
        for &measure in measures {
            if let Some(table) = tables::detail(results, threads, measure) {
                let threads = tables::threads_in_words(threads);
                text += &format!("\n{}, {threads}:\n\n{}", measure.title(), table.as_markdown());
            }
        }
    }
    text + "\n</details>\n"
}

fn machine(results: &Results) -> String {
    let backend = results.suite.words().backend;
    let pinned = if results.pinned {
        format!("the proxy on the first cores, load generator and {backend} on the rest")
    } else {
        format!("proxy, load generator and {backend} share all cores")
    };
    let (rounds, seconds) = (results.rounds, results.seconds);
    let words = machine_in_words(&results.machine);
    format!("{words}{pinned}; {rounds} rounds of {seconds} s each.\n")
}

/// What it is and how busy it was with other things; how the processors were shared out comes behind it.
pub fn machine_in_words(machine: &Machine) -> String {
    let kind = if machine.virtual_machine { ", virtual machine" } else { "" };
    format!(
        "\n## Machine\n\n{}, {} cores, {:.0} GiB{kind}; {}, Linux {}. Meanwhile other programs used \
         {:.0} % of the processor time, and the host of the machine kept {:.0} % to itself. How they \
         were shared out: ",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        machine.used_by_others * 100.0,
        machine.stolen * 100.0,
    )
}

fn versions(results: &Results) -> String {
    let mut text = String::from("\n## Versions\n\n| peer | version | from |\n|---|---|---|\n");
    for (peer, version) in &results.versions {
        let version = if version.is_empty() { "-" } else { version };
        text += &format!("| {} | {version} | {} |\n", peer.title(), peer.origin(results.suite));
    }
    for peer in &results.absent {
        text += &format!("| {} | absent | {} |\n", peer.title(), peer.how_to_install());
    }
    if !results.failures.is_empty() {
        text += "\nRuns that failed:\n\n";
        // Only which run: the reason may quote a program that names a path.
        let runs = results.failures.iter().filter_map(|failure| failure.split(": ").next());
        runs.for_each(|run| text += &format!("- {run}\n"));
    }
    text
}

fn configs(results: &Results) -> String {
    let mut text = String::from("\n## Configs\n\nWith one thread; the ports differ in each run.\n");
    if results.suite.is_http() {
        text +=
            "What stands in the folder above is the same for all: certificate, key and files.\n";
    }
    text + &config_blocks(&results.configs)
}

pub fn config_blocks(configs: &[ShownConfig]) -> String {
    let mut text = String::new();
    for config in configs {
        let title = config.peer.title();
        text +=
            &format!("\n<details><summary>{title}: <code>{}</code></summary>\n", config.command);
        for (name, content) in &config.files {
            text += &format!("\n`{name}`:\n\n```\n{content}```\n");
        }
        text += "\n</details>\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    #[test]
    fn prose_around_the_marks_stays() {
        let words = Suite::Tcp.words();
        let Words { begin, end, .. } = words;
        let page = format!("before\n{begin}\nold\n{end}\nafter\n");
        let page = replace(&page, (begin, end), "new").unwrap();
        assert_eq!(page, format!("before\n{begin}\n\nnew\n{end}\nafter\n"));
        assert_eq!(replace("no marks", (begin, end), "new"), None);
    }
}
