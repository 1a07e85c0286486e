//! Writes what a run found to files: samples as CSV, the picture, and the last summary into
//! docs/soak.md between two marks. The page names machine and versions, never a host or a path.

use std::fs;
use std::path::Path;

use crate::chart;
use crate::machine::Machine;
use crate::run::{Found, Order};
use crate::schedule::Act;
use crate::verdict;

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";

/// CSV and picture, to look at.
pub fn keep(found: &Found, folder: &Path) -> Result<(), String> {
    write(&folder.join("soak.csv"), &csv(found))?;
    write(&folder.join("soak.svg"), &chart::draw(found))
}

/// Picture and summary, to publish.
pub fn publish(
    found: &Found,
    order: &Order,
    machine: &Machine,
    version: &str,
    docs: &Path,
) -> Result<(), String> {
    let file = docs.join("soak.md");
    let page = fs::read_to_string(&file).map_err(|error| format!("read the page: {error}"))?;
    let body = summary(found, order, machine, version);
    let page = replace(&page, &body).ok_or(format!("{BEGIN} and {END} are missing"))?;
    write(&docs.join("img/soak.svg"), &chart::draw(found))?;
    write(&file, &page)
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(file, text))
        .map_err(|error| format!("write {}: {error}", file.display()))
}

fn replace(page: &str, body: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{body}\n{END}{after}"))
}

fn summary(found: &Found, order: &Order, machine: &Machine, version: &str) -> String {
    let kind = if machine.virtual_machine { ", virtual machine" } else { "" };
    format!(
        "Evenkeel {version}, {:.0} seconds, seed {}: **{}**.\n\n\
         ![Memory, descriptors and lost connections over time](img/soak.svg)\n\n{}\n{}\n\
         Machine: {}, {} cores, {:.0} GiB{kind}; {}, Linux {}. Meanwhile other programs used \
         {:.0} % of the processor time.\n",
        found.seconds,
        order.seed,
        if verdict::passed(found) { "PASS" } else { "FAIL" },
        verdict::table(found).as_markdown(),
        verdict::counts(found).as_markdown(),
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        machine.used_by_others * 100.0,
    )
}

/// A row each second; faults stand in the row of the second in which they happened.
fn csv(found: &Found) -> String {
    let mut text = String::from(
        "seconds,pss_bytes,rss_bytes,descriptors,descriptors_of_pipes,open,opened,excused,\
         unexcused,wrong_bytes,backends_up,faults\n",
    );
    let mut marks = found.marks.iter().peekable();
    for sample in &found.samples {
        let mut faults = Vec::new();
        while let Some(mark) = marks.next_if(|mark| mark.seconds <= sample.seconds) {
            let act = if mark.event.act == Act::Kill { "kill" } else { "stop" };
            let (backend, lasts) = (mark.event.backend + 1, mark.event.lasts.as_secs_f64());
            faults.push(format!("{act} {backend} for {lasts:.1} s"));
        }
        text += &format!(
            "{:.1},{},{},{},{},{},{},{},{},{},{},{}\n",
            sample.seconds,
            sample.memory.pss,
            sample.memory.rss,
            sample.descriptors.all(),
            sample.descriptors.of_pipes,
            sample.open,
            sample.opened,
            sample.excused,
            sample.unexcused,
            sample.wrong,
            sample.backends_up,
            faults.join("; "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_around_the_marks_stays() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let page = replace(&page, "new").unwrap();
        assert_eq!(page, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(replace("no marks", "new"), None);
    }
}
