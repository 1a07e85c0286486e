//! `evenkeel replay`: makes every pick of a journal again and fails where one comes out differently; or says where they would have
//! gone by another config. It works on files alone.

use std::path::{Path, PathBuf};

use super::journal::Place;
use super::status::table;
use super::{complain, exit, say, wants_color};
use crate::config::Config;
use crate::descriptors;
use crate::observe::journal::Chronicle;
use crate::plan::Plan;
use crate::upstream::replay::{Spread, again, instead};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say who would have gone elsewhere by this config, and how the load would have spread.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The config file that the running process was started with.
    #[arg(short = 'c', long = "running", value_name = "FILE", default_value = super::DEFAULT_FILE)]
    running: PathBuf,
    /// The admin socket of the process, in place of finding it by that file.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Read this: a folder that a process has left, or an exported file. Without it, the running process says where it is.
    #[arg(long, value_name = "FOLDER|FILE")]
    journal: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn replay(arguments: &Arguments) -> u8 {
    let Arguments { running, socket, journal, .. } = arguments;
    let (socket, journal) = (socket.as_deref(), journal.as_deref());
    let chronicle = match (Place { file: running, socket, journal }).read() {
        Ok(chronicle) => chronicle,
        Err(code) => return code,
    };
    match &arguments.config {
        None => same(&chronicle, arguments.json),
        Some(file) => other(&chronicle, file, arguments.json),
    }
}

/// Makes every pick again; an exit code that says so if one comes out differently.
fn same(chronicle: &Chronicle, json: bool) -> u8 {
    let replayed = again(chronicle);
    let (same, different) = (replayed.same, replayed.different);
    let (partial, lost) = (replayed.partial, replayed.without_line_up);
    if json {
        let first = replayed.first.as_ref().map(|first| {
            serde_json::json!({
                "pick": first.pick, "upstream": first.upstream,
                "recorded": first.recorded, "now": first.now,
            })
        });
        let said = serde_json::json!({
            "same": same, "different": different, "partial": partial,
            "without_line_up": lost, "first": first,
        });
        say(&said.to_string());
    } else {
        say(&format!("{same} picks come out the same, {different} differently"));
        if partial > 0 {
            say(&format!("{partial} read more than their record holds, and cannot be made again"));
        }
        if lost > 0 {
            say(&format!("{lost} were made from backends that the journal has forgotten"));
        }
    }
    let Some(first) = &replayed.first else { return exit::FINE };
    let pick = &first.pick;
    complain(&format!(
        "evenkeel: the first that differs: ticket {} of upstream {} (worker {}, position {}): recorded {}, now {}",
        pick.ticket, first.upstream, pick.worker, pick.position, first.recorded, first.now
    ));
    exit::FAILED
}

fn other(chronicle: &Chronicle, file: &Path, json: bool) -> u8 {
    let config = match Config::from_file(file) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            complain(problems.render(wants_color()).trim_end());
            return exit::BAD_CONFIG;
        }
    };
    let plan = Plan::compile(&config, descriptors::raise());
    let rules: Vec<_> = plan.upstreams.into_iter().map(|upstream| upstream.rules).collect();
    let spreads = instead(chronicle, &rules);
    if json {
        say(&serde_json::to_string_pretty(&spreads).unwrap_or_default());
    } else {
        let drawn: Vec<_> = spreads.iter().map(drawn).collect();
        say(&if drawn.is_empty() { "no picks".to_owned() } else { drawn.join("\n\n") });
    }
    exit::FINE
}

fn drawn(spread: &Spread) -> String {
    let Spread { upstream, picks, moved, without_key, .. } = spread;
    if spread.is_gone {
        return format!("upstream {upstream}: it is not in the new config");
    }
    let mut lines =
        vec![format!("upstream {upstream}: {moved} of {picks} would have gone elsewhere")];
    if *without_key > 0 {
        let what = "were left out: what they would be hashed by is not in the journal";
        lines.push(format!("{without_key} {what}"));
    }
    let share =
        |count: usize| format!("{count} ({:.1} %)", count as f64 * 100.0 / (*picks).max(1) as f64);
    let rows = spread.backends.iter().map(|row| {
        let name = if row.backend.is_empty() { "nobody" } else { &row.backend };
        let difference = row.after as i64 - row.before as i64;
        vec![name.to_owned(), share(row.before), share(row.after), format!("{difference:+}")]
    });
    lines.push(String::new());
    lines.extend(table(&["BACKEND", "BEFORE", "AFTER", "DIFFERENCE"], rows.collect()));
    if !spread.movers.is_empty() {
        lines.push(String::new());
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let rows = spread.movers.iter().map(|mover| {
            let (client, request) = (or_none(&mover.client), or_none(&mover.request));
            vec![client, request, mover.before.clone(), mover.after.clone()]
        });
        lines.extend(table(&["CLIENT", "REQUEST", "BEFORE", "AFTER"], rows.collect()));
    }
    lines.join("\n")
}
