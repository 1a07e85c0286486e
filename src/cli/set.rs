//! `evenkeel set`, `add` and `remove`: backends of the running process, changed as a file would change them. What is in force is looked at
//! first, and only that is changed: if somebody else was faster, nothing is.

use serde_json::{Map, Value};

use super::ask::{Answer, Failure, Reach};
use super::connections::encoded;
use super::draining::Target;
use super::{complain, exit, say};
use crate::admin::message::{Applied, Batch, BatchStep, ConfiguredBackends, Step};

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    #[command(flatten)]
    reach: Reach,
    /// The backend, as the config has it: `app/10.0.0.1:8080`.
    #[arg(value_name = "UPSTREAM/BACKEND")]
    target: Target,
    /// Keys of a backend with their values: `weight=3`, `connections-max=100`, `backup=true`; `KEY=default` takes one out.
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = key)]
    keys: Vec<Key>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    reach: Reach,
    /// The upstream that it comes to.
    upstream: String,
    /// Its address: `10.0.0.1:8080`, `name:8080` or `unix:/path`.
    address: String,
    /// Keys of a backend with their values: `weight=3`.
    #[arg(value_name = "KEY=VALUE", value_parser = key)]
    keys: Vec<Key>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    #[command(flatten)]
    reach: Reach,
    /// The backend, as the config has it: `app/10.0.0.1:8080`.
    #[arg(value_name = "UPSTREAM/BACKEND")]
    target: Target,
}

/// A key of a backend, and what it is to be.
type Key = (String, Value);

fn key(text: &str) -> Result<Key, String> {
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err("write KEY=VALUE, as weight=3".to_owned());
    };
    let value = match value {
        "default" => Value::Null,
        "true" | "false" => Value::Bool(value == "true"),
        _ => value.parse::<i64>().map_or_else(|_| value.into(), Value::from),
    };
    Ok((key.to_owned(), value))
}

pub(super) fn set(arguments: &Set) -> u8 {
    let keys = arguments.keys.iter().cloned().collect();
    with_backend(&arguments.target, |upstream, backend| {
        change(&arguments.reach, Step::Patch, (upstream, backend), keys)
    })
}

pub(super) fn add(arguments: &Add) -> u8 {
    let keys = arguments.keys.iter().cloned().collect();
    change(&arguments.reach, Step::Add, (&arguments.upstream, &arguments.address), keys)
}

pub(super) fn remove(arguments: &Remove) -> u8 {
    with_backend(&arguments.target, |upstream, backend| {
        change(&arguments.reach, Step::Remove, (upstream, backend), Map::new())
    })
}

fn with_backend(target: &Target, then: impl FnOnce(&str, &str) -> u8) -> u8 {
    match &target.backend {
        Some(backend) => then(&target.upstream, backend),
        None => {
            complain("evenkeel: name one backend, as app/10.0.0.1:8080");
            exit::BAD_LINE
        }
    }
}

fn change(
    reach: &Reach,
    step: Step,
    (upstream, backend): (&str, &str),
    set: Map<String, Value>,
) -> u8 {
    let json = reach.json;
    let path = format!("/v1/upstreams/{}/backends", encoded(upstream));
    let seen: Answer<ConfiguredBackends> = match reach.see(&path) {
        Ok(seen) => seen,
        Err(failure) => return failure.say(json),
    };
    let (upstream, backend) = (upstream.to_owned(), backend.to_owned());
    let batch = Batch { changes: vec![BatchStep { r#do: step, upstream, backend, set }] };
    let mark = &seen.value.mark;
    let done: Result<Answer<Applied>, Failure> = reach.change(("POST", "/v1/batch"), mark, &batch);
    match done {
        Ok(answer) if json => say(&answer.text),
        Ok(answer) => told(&answer.value),
        Err(failure) => return failure.say(json),
    }
    exit::FINE
}

fn told(applied: &Applied) {
    applied.changes.iter().for_each(|change| say(change));
    for touched in &applied.touched {
        let (of, open, then) = (&touched.of, touched.open, &touched.then);
        match open {
            1 => say(&format!("{of}: 1 open connection; it {then}")),
            _ => say(&format!("{of}: {open} open connections; each {then}")),
        }
    }
    applied.operator.iter().for_each(|word| say(word));
    match applied.changes.len() {
        0 => say("nothing has changed"),
        _ => say(
            "in force, until the file is read again; `evenkeel config --write FILE` writes it down",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_truths_and_texts() {
        assert_eq!(key("weight=3").unwrap(), ("weight".to_owned(), 3.into()));
        assert_eq!(key("backup=true").unwrap().1, true);
        assert_eq!(key("connections-max=default").unwrap().1, Value::Null);
        assert_eq!(key("a=b=c").unwrap().1, "b=c");
        assert!(key("weight").is_err() && key("=3").is_err());
    }
}
