//! `evenkeel diff`: what a new config file would change, in words, before anybody reloads it: of the running process, if there is
//! one, else of another file. Nothing is started or changed.

use std::path::{Path, PathBuf};

use super::ask::{Answer, Failure, Reach};
use super::{complain, exit, reloading, say, wants_color};
use crate::admin::message::{DiffOrder, Outcome};
use crate::config::{Config, changes};
use crate::process::after_restart;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Compare the files alone, whether a process is running or not.
    #[arg(long, conflicts_with = "socket")]
    offline: bool,
    /// The config file that would come in its place.
    new: PathBuf,
}

pub(super) fn diff(arguments: &Arguments) -> u8 {
    let Some(new) = read(&arguments.new) else { return exit::BAD_CONFIG };
    let json = arguments.reach.json;
    let outcome = if arguments.offline { None } else { running(&arguments.reach, &new) };
    let outcome = match outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(failure)) => return failure.say(json),
        None => {
            let Some(old) = read(&arguments.reach.file.config) else { return exit::BAD_CONFIG };
            let (changes, after_restart) = (changes(&old, &new), after_restart(&old, &new));
            Outcome { changes, after_restart, ..Outcome::default() }
        }
    };
    if json {
        say(&serde_json::to_string(&outcome).unwrap_or_default());
    } else {
        reloading::print(&outcome, true);
    }
    exit::FINE
}

/// What the running process says; nothing, if none is found and none was named.
fn running(reach: &Reach, new: &Config) -> Option<Result<Outcome, Failure>> {
    let order = DiffOrder { config: new.effective() };
    let answer: Result<Answer<Outcome>, Failure> = reach.order("/v1/diff", &order);
    match answer {
        Ok(answer) => {
            let pid = answer.value.pid.unwrap_or_default();
            complain(&format!("beside the config of the running process, {pid}:"));
            Some(Ok(answer.value))
        }
        Err(Failure::NotReached(_)) if !reach.names_a_socket() => None,
        Err(failure) => Some(Err(failure)),
    }
}

fn read(file: &Path) -> Option<Config> {
    match Config::from_file(file) {
        Ok(loaded) => Some(loaded.config),
        Err(problems) => {
            complain(problems.render(wants_color()).trim_end());
            None
        }
    }
}
