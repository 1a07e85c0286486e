//! `evenkeel demo`: three backends, a proxy over them and clients, in this process alone, to be watched and disturbed.
//! The proxy is started through the public library like any other; nothing of what is shown about it is made up.

mod answers;
mod backends;
mod chronicle;
mod crowd;
pub(super) mod draw;
mod folder;
pub(super) mod keys;
mod operators;
mod plain;
mod requests;
mod scene;
mod screen;
mod setup;
pub(super) mod stop;
mod traffic;

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::{complain, exit};
use crate::config::Time;
use scene::Scene;
use stop::Stop;

/// How long the demo lasts without a terminal, when nothing else was asked for.
const PLAIN_LASTS: Time = Time::seconds(10);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// End after this long. Default: 10s without a terminal, no end with one.
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<Time>,
    /// Print plain lines also on a terminal, and stop and start a backend without being asked.
    #[arg(long)]
    plain: bool,
}

pub(super) fn demo(arguments: &Arguments) -> u8 {
    match perform(arguments) {
        Ok(()) => exit::FINE,
        Err(error) => {
            complain(&format!("evenkeel: {error}"));
            exit::NOT_STARTED
        }
    }
}

fn perform(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut stop = Stop::on_signals()?;
    let mut scene = Scene::start()?;
    if arguments.plain || !is_for_screens() {
        let lasts = arguments.lasts.unwrap_or(PLAIN_LASTS);
        return plain::show(&mut scene, &mut stop, lasts.0);
    }
    screen::show(&mut scene, &mut stop, arguments.lasts.map(|time| time.0))?;
    plain::sum_up(&scene.view());
    Ok(())
}

fn is_for_screens() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// A time since the start, to a tenth of a second.
fn tenths(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
