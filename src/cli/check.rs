//! `evenkeel check`: every problem of a config file, for people or as JSON, without starting anything.
//! With `--effective`, the config as it will be used, every default filled in.

use super::{ConfigFile, complain, exit, say, wants_color};
use crate::config::Config;
use crate::config::problem::Problems;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the config with every default filled in.
    #[arg(long, conflicts_with = "json")]
    effective: bool,
    /// Print the problems as a JSON array instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Arguments) -> u8 {
    match Config::from_file(&arguments.file.config) {
        Ok(loaded) => {
            report(&loaded.warnings, arguments.json);
            if arguments.effective {
                say(loaded.config.effective().trim_end());
            } else if !arguments.json {
                say(&summary(&loaded.config, &arguments.file.config.display().to_string()));
            }
            exit::FINE
        }
        Err(problems) => {
            report(&problems, arguments.json);
            exit::BAD_CONFIG
        }
    }
}

fn report(problems: &Problems, json: bool) {
    if json {
        say(&serde_json::to_string_pretty(problems).unwrap_or_default());
    } else if !problems.is_empty() {
        complain(problems.render(wants_color()).trim_end());
    }
}

fn summary(config: &Config, file: &str) -> String {
    let backends: usize = config.upstream.values().map(|upstream| upstream.backends.len()).sum();
    let (listeners, upstreams) = (config.tcp.len() + config.http.len(), config.upstream.len());
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{file} is fine: {listeners} listener{}, {upstreams} upstream{}, {backends} backend{}",
        plural(listeners),
        plural(upstreams),
        plural(backends)
    )
}
