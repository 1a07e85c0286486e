//! `evenkeel reload`, `evenkeel confirm` and `evenkeel upgrade`: have the running process read its config file again, and say what came of it. The
//! file is read by that process, with its rights and its environment; nothing is decided here.

use super::ask::{Answer, Failure, Reach};
use super::{exit, say, wants_color};
use crate::admin::message::{Outcome, ReloadOrder, Upgraded};
use crate::config::Time;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Change nothing: say what would change, and how many open connections that touches.
    #[arg(long)]
    dry_run: bool,
    /// Go back to the config before, unless `evenkeel confirm` comes within this time.
    #[arg(long, value_name = "TIME", conflicts_with = "dry_run")]
    confirm_within: Option<Time>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Confirm {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, clap::Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn reload(arguments: &Arguments) -> u8 {
    let millis = |time: Time| u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX);
    let order = ReloadOrder {
        dry_run: arguments.dry_run,
        confirm_within_ms: arguments.confirm_within.map(millis),
        color: wants_color() && !arguments.reach.json,
    };
    let answer: Result<Answer<Outcome>, Failure> = arguments.reach.order("/v1/reload", &order);
    let json = arguments.reach.json;
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return failure.say(json),
    };
    if json {
        say(&answer.text);
        return exit::FINE;
    }
    let outcome = answer.value;
    if !outcome.drawn.is_empty() {
        super::complain(&outcome.drawn);
    }
    print(&outcome, arguments.dry_run);
    if let Some(within) = arguments.confirm_within {
        say(&format!("goes back in {within}, unless `evenkeel confirm` comes"));
    }
    exit::FINE
}

/// What changes, or would, for people.
pub(super) fn print(outcome: &Outcome, is_only_asked: bool) {
    outcome.changes.iter().for_each(|change| say(change));
    for key in &outcome.after_restart {
        say(&format!("{key}: takes effect with the next start only"));
    }
    for touched in &outcome.touched {
        let (of, open, how, then) = (&touched.of, touched.open, &touched.how, &touched.then);
        match open {
            1 => say(&format!("{of} ({how}): 1 open connection; it {then}")),
            _ => say(&format!("{of} ({how}): {open} open connections; each {then}")),
        }
    }
    outcome.operator.iter().chain(&outcome.over_api).for_each(|word| say(word));
    match (outcome.changes.len(), is_only_asked) {
        (0, true) => say("nothing would change"),
        (0, false) => say("reloaded: nothing has changed"),
        (_, true) => {}
        (1, false) => say("reloaded: 1 change"),
        (count, false) => say(&format!("reloaded: {count} changes")),
    }
}

pub(super) fn confirm(arguments: &Confirm) -> u8 {
    let done: Result<Answer<()>, Failure> =
        arguments.reach.order("/v1/confirm", &serde_json::json!({}));
    match done {
        Ok(_) if arguments.reach.json => say("{\"confirmed\":true}"),
        Ok(_) => say("confirmed: the config stays"),
        Err(failure) => return failure.say(arguments.reach.json),
    }
    exit::FINE
}

pub(super) fn upgrade(arguments: &Upgrade) -> u8 {
    let done: Result<Answer<Upgraded>, Failure> =
        arguments.reach.order("/v1/upgrade", &serde_json::json!({}));
    match done {
        Ok(answer) if arguments.reach.json => say(&answer.text),
        Ok(answer) => {
            let Upgraded { pid, handed_over, left, over_api } = answer.value;
            over_api.iter().for_each(|line| super::complain(line));
            say(&format!("process {pid} serves now; it has taken over {handed_over} connections"));
            match left {
                0 => {}
                1 => say("1 is finished by the process before, which then ends"),
                _ => say(&format!("{left} are finished by the process before, which then ends")),
            }
        }
        Err(failure) => return failure.say(arguments.reach.json),
    }
    exit::FINE
}
