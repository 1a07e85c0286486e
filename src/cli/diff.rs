//! `evenkeel diff`: what a new config file would change, in words, before anybody reloads it. Nothing is started or asked.

use std::path::PathBuf;

use super::{ConfigFile, complain, exit, say, wants_color};
use crate::config::{Config, changes};
use crate::process::after_restart;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The config file that would come in its place.
    new: PathBuf,
}

pub(super) fn diff(arguments: &Arguments) -> u8 {
    let mut configs = Vec::new();
    for file in [&arguments.file.config, &arguments.new] {
        match Config::from_file(file) {
            Ok(loaded) => configs.push(loaded.config),
            Err(problems) => {
                complain(problems.render(wants_color()).trim_end());
                return exit::BAD_CONFIG;
            }
        }
    }
    let [old, new] = &configs[..] else { return exit::BAD_CONFIG };
    let changes = changes(old, new);
    changes.iter().for_each(|change| say(change));
    for key in after_restart(old, new) {
        say(&format!("{key}: takes effect with the next start only"));
    }
    if changes.is_empty() {
        say("nothing would change");
    }
    exit::FINE
}
