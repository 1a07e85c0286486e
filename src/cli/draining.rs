//! `evenkeel drain`, `ready`, `down` and `weight`: an operator's word about backends of a running process, or about the whole of
//! it. What was said is printed as the process has understood it; waiting only looks on, so that it can be ended at any time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::ask::{Answer, Failure, Reach};
use super::{complain, exit, say};
use crate::admin::message::{BackendOrder, BackendRow, Backends, Status};
use crate::config::Time;

/// How often the process is asked how many connections remain.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often at most that is printed.
const PRINT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    #[command(flatten)]
    reach: Reach,
    /// The upstream, or one backend of it: `app`, or `app/10.0.0.1:8080`.
    #[arg(value_name = "UPSTREAM[/BACKEND]")]
    target: Option<Target>,
    /// Drain the whole process, as the signal TERM does.
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Return when the last connection has left, and print how many remain meanwhile.
    #[arg(long)]
    wait: bool,
    /// With `--wait`: give up after this long.
    #[arg(long, value_name = "TIME", requires = "wait")]
    timeout: Option<Time>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    #[command(flatten)]
    reach: Reach,
    /// The upstream, or one backend of it: `app`, or `app/10.0.0.1:8080`.
    #[arg(value_name = "UPSTREAM[/BACKEND]")]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct Weight {
    #[command(flatten)]
    reach: Reach,
    /// The backend: `app/10.0.0.1:8080`.
    #[arg(value_name = "UPSTREAM/BACKEND")]
    target: Target,
    /// Its weight from now on, or `config` for the one in the config.
    #[arg(value_name = "N", value_parser = weight_of)]
    weight: Weighed,
}

/// Whom an order is for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) upstream: String,
    pub(super) backend: Option<String>,
}

/// A weight; none is the one of the config.
#[derive(Debug, Clone, Copy)]
struct Weighed(Option<u32>);

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (upstream, backend) = match text.split_once('/') {
            Some((upstream, backend)) => (upstream, Some(backend.to_owned())),
            None => (text, None),
        };
        if upstream.is_empty() || backend.as_ref().is_some_and(String::is_empty) {
            return Err("write UPSTREAM or UPSTREAM/BACKEND, as app/10.0.0.1:8080".to_owned());
        }
        Ok(Target { upstream: upstream.to_owned(), backend })
    }
}

impl Target {
    fn order(&self) -> BackendOrder {
        BackendOrder {
            upstream: Some(self.upstream.clone()),
            backend: self.backend.clone(),
            ..BackendOrder::default()
        }
    }
}

fn weight_of(text: &str) -> Result<Weighed, String> {
    match text {
        "config" => Ok(Weighed(None)),
        number => match number.parse() {
            Ok(weight) => Ok(Weighed(Some(weight))),
            Err(_) => Err("write a whole number, or `config`".to_owned()),
        },
    }
}

pub(super) fn drain(arguments: &Drain) -> u8 {
    let order = match (&arguments.target, arguments.all) {
        (Some(target), _) => target.order(),
        (None, true) => BackendOrder { all: true, ..BackendOrder::default() },
        (None, false) => {
            complain(
                "evenkeel: name an upstream or a backend to drain, as `evenkeel drain app/10.0.0.1:8080`; \
                 to drain and stop the whole process, say `evenkeel drain --all`",
            );
            return exit::BAD_LINE;
        }
    };
    let json = arguments.reach.json;
    let answer = match give("/v1/drain", &order, &arguments.reach, arguments.wait) {
        Ok(answer) => answer,
        Err(failure) => return failure.say(json),
    };
    if arguments.all && !json {
        say("the whole process drains: no new connections after lame-duck, and then it stops");
    }
    if !arguments.wait {
        return exit::FINE;
    }
    let of = if arguments.all { Of::Process } else { Of::Backends(named(&answer)) };
    wait(&arguments.reach, &of, arguments.timeout)
}

pub(super) fn ready(arguments: &Named) -> u8 {
    plainly("/v1/ready", &arguments.target.order(), &arguments.reach)
}

pub(super) fn down(arguments: &Named) -> u8 {
    plainly("/v1/down", &arguments.target.order(), &arguments.reach)
}

pub(super) fn weight(arguments: &Weight) -> u8 {
    let order = BackendOrder { weight: arguments.weight.0, ..arguments.target.order() };
    plainly("/v1/weight", &order, &arguments.reach)
}

fn plainly(path: &str, order: &BackendOrder, reach: &Reach) -> u8 {
    match give(path, order, reach, false) {
        Ok(_) => exit::FINE,
        Err(failure) => failure.say(reach.json),
    }
}

/// Gives an order and prints what it has come to, unless that is printed at the end of waiting.
fn give(
    path: &str,
    order: &BackendOrder,
    reach: &Reach,
    will_wait: bool,
) -> Result<Backends, Failure> {
    let Answer { text, value }: Answer<Backends> = reach.order(path, order)?;
    match reach.json {
        true if !will_wait => say(&text),
        true => {}
        false => value.backends.iter().for_each(|row| say(&described(row))),
    }
    Ok(value)
}

fn described(row: &BackendRow) -> String {
    let BackendRow { upstream, backend, state, weight, open, .. } = row;
    let connections = if *open == 1 { "connection" } else { "connections" };
    let said = row.operator.as_deref().unwrap_or_default();
    let by = |is_said| if is_said { " by an operator" } else { "" };
    let (of_state, of_weight) = (by(said.starts_with(state.as_str())), by(said.contains("weight")));
    format!(
        "{upstream}/{backend}: {state}{of_state}, weight {weight}{of_weight}, {open} open {connections}"
    )
}

/// Whose connections are waited for.
enum Of {
    Process,
    Backends(HashSet<(String, String)>),
}

fn named(answer: &Backends) -> HashSet<(String, String)> {
    let names = answer.backends.iter();
    names.map(|row| (row.upstream.clone(), row.backend.clone())).collect()
}

/// How many connections remain; nothing, if the process has ended as it was to.
fn remaining(reach: &Reach, of: &Of) -> Result<Option<u64>, Failure> {
    let status = match reach.see::<Status>("/v1/status") {
        Ok(answer) => answer.value,
        Err(Failure::NotReached(_)) if matches!(of, Of::Process) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    Ok(match of {
        Of::Process => Some(status.open),
        Of::Backends(names) => {
            let own = status.backends.iter();
            let own =
                own.filter(|row| names.contains(&(row.upstream.clone(), row.backend.clone())));
            Some(own.map(|row| u64::from(row.open)).sum())
        }
    })
}

fn wait(reach: &Reach, of: &Of, timeout: Option<Time>) -> u8 {
    let until = timeout.map(|timeout| Instant::now() + timeout.0);
    let mut printed: Option<(u64, Instant)> = None;
    loop {
        let open = match remaining(reach, of) {
            Ok(open) => open,
            Err(failure) => return failure.say(reach.json),
        };
        // A whole process has to end besides.
        if open.is_none() || (open == Some(0) && matches!(of, Of::Backends(_))) {
            match (of, reach.json) {
                (Of::Process, false) => say("the process has ended"),
                _ => tell(reach, 0, false),
            }
            return exit::FINE;
        }
        let open = open.unwrap_or_default();
        if until.is_some_and(|until| Instant::now() >= until) {
            tell(reach, open, true);
            return exit::TIME_OVER;
        }
        let is_news =
            printed.is_none_or(|(last, at)| last != open && Instant::now() >= at + PRINT_EVERY);
        if is_news && !reach.json {
            say(&remain(open));
            printed = Some((open, Instant::now()));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn remain(open: u64) -> String {
    match open {
        0 => "no connection remains".to_owned(),
        1 => "1 connection remains".to_owned(),
        open => format!("{open} connections remain"),
    }
}

fn tell(reach: &Reach, open: u64, time_is_over: bool) {
    match (reach.json, time_is_over) {
        (true, _) => {
            let said = serde_json::json!({ "remaining": open, "timed_out": time_is_over });
            say(&said.to_string());
        }
        (false, true) => complain(&format!("evenkeel: the time is over: {}", remain(open))),
        (false, false) => say(&remain(open)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_may_have_slashes_in_its_name() {
        let target: Target = "app/unix:/run/a.sock".parse().unwrap();
        assert_eq!(
            (&*target.upstream, target.backend.as_deref()),
            ("app", Some("unix:/run/a.sock"))
        );
        assert!("app".parse::<Target>().unwrap().backend.is_none());
        assert!("".parse::<Target>().is_err() && "app/".parse::<Target>().is_err());
    }
}
