//! Changes to the backends of a config that is in force: added, changed, removed. What comes out is a config like any other, and is judged
//! as one; nothing is ever half done, and nothing else of it changes.

use std::path::Path;

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::read::{Findings, Reader, Value};
use super::{Address, Backend, Config, environment};

/// What is to become of one backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edit {
    /// Be there, with these keys; not if it is already.
    Add(Map<String, Json>),
    /// Be there with these keys, whether it was or not.
    Put(Map<String, Json>),
    /// Have these keys besides; `null` is the default of a key.
    Patch(Map<String, Json>),
    Remove,
}

/// Why a config cannot be changed so.
#[derive(Debug, Clone)]
pub(crate) enum Unedited {
    /// There are these upstreams only.
    NoUpstream(Vec<String>),
    /// The upstream has these backends only.
    NoBackend(Vec<String>),
    /// It is there already.
    IsThere,
    /// What is written is no backend.
    Config(Box<Problems>),
    /// It cannot be written down at all.
    Unwritten(String),
}

impl Config {
    /// Changes one backend of an upstream.
    pub(crate) fn edit(
        &mut self,
        upstream: &str,
        backend: &str,
        edit: &Edit,
    ) -> Result<(), Unedited> {
        let names = || self.upstream.keys().cloned().collect();
        if !self.upstream.contains_key(upstream) {
            return Err(Unedited::NoUpstream(names()));
        }
        let Some(upstream) = self.upstream.get_mut(upstream) else {
            return Err(Unedited::NoUpstream(Vec::new()));
        };
        let all = &mut upstream.backends;
        let found = all.iter().position(|known| is_called(&known.address, backend));
        let unknown = |all: &[Backend]| {
            Unedited::NoBackend(all.iter().map(|known| known.address.to_string()).collect())
        };
        match (edit, found) {
            (Edit::Add(_), Some(_)) => return Err(Unedited::IsThere),
            (Edit::Add(keys) | Edit::Put(keys), None) => all.push(made(backend, keys.clone())?),
            (Edit::Put(keys), Some(at)) => all[at] = made(backend, keys.clone())?,
            (Edit::Patch(keys), Some(at)) => {
                let mut whole = keys_of(&all[at]);
                whole.extend(keys.clone());
                all[at] = made(backend, whole)?;
            }
            (Edit::Remove, Some(at)) => drop(all.remove(at)),
            (Edit::Patch(_) | Edit::Remove, None) => return Err(unknown(all)),
        }
        Ok(())
    }

    /// The backend of an upstream that is called so.
    pub(crate) fn backend(&self, upstream: &str, backend: &str) -> Option<&Backend> {
        let all = &self.upstream.get(upstream)?.backends;
        all.iter().find(|known| is_called(&known.address, backend))
    }
}

/// What has become, by `now`, of changes that were made to `before`, if `file` comes in its place: a line for each backend. What the file
/// has too is no loss; what it does not have is taken back.
pub(crate) fn taken_back(before: &Config, now: &Config, file: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (of, backend, was, is) in differences(before, now) {
        let next = file.backend(&of, &backend);
        let what = match (was, is) {
            (None, _) => "added",
            (Some(_), None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        let then = match next == is {
            true => "the file has that too".to_owned(),
            false => "the file takes that back".to_owned(),
        };
        lines.push(format!("{of}/{backend}: {what} over the admin API, {then}"));
    }
    lines
}

/// Backends in which two configs differ: the upstream, the address, and how it is in each.
pub(crate) fn differences<'c>(
    before: &'c Config,
    now: &'c Config,
) -> Vec<(String, String, Option<&'c Backend>, Option<&'c Backend>)> {
    let mut all = Vec::new();
    for (name, upstream) in &now.upstream {
        let was = before.upstream.get(name).map_or(&[][..], |before| &before.backends);
        let came = upstream.backends.iter().map(|is| (&is.address, Some(is)));
        let went =
            was.iter().filter(|was| !upstream.backends.iter().any(|is| is.address == was.address));
        let went = went.map(|was| (&was.address, None));
        for (address, is) in came.chain(went) {
            let was = was.iter().find(|was| was.address == *address);
            if was != is {
                all.push((name.clone(), address.to_string(), was, is));
            }
        }
    }
    all
}

fn is_called(address: &Address, name: &str) -> bool {
    match (address, name.parse()) {
        (Address::Port(port), Ok(Address::Ip(ip))) => {
            ip.ip() == std::net::Ipv4Addr::LOCALHOST && ip.port() == *port
        }
        (address, Ok(named)) => *address == named,
        (_, Err(_)) => false,
    }
}

/// A backend as its keys in JSON, without those that are absent.
pub(crate) fn keys_of(backend: &Backend) -> Map<String, Json> {
    match serde_json::to_value(backend) {
        Ok(Json::Object(keys)) => keys.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

/// A backend of these keys, read as a file's would be.
fn made(address: &str, mut keys: Map<String, Json>) -> Result<Backend, Unedited> {
    let address = match keys.get("address").and_then(Json::as_str) {
        Some(given) if given.parse::<Address>().is_ok_and(|it| is_called(&it, address)) => given,
        Some(_) => return Err(Unedited::Unwritten("`address` is another one".to_owned())),
        None => address,
    };
    let address = Json::from(address);
    keys.retain(|_, value| !value.is_null());
    keys.insert("address".to_owned(), address);
    let text = toml::to_string(&keys).map_err(|error| Unedited::Unwritten(error.to_string()))?;
    // What comes from afar has no business with our environment.
    let text = environment::escaped(&text);
    let mut findings = Findings::default();
    let source = findings.problems.source(Path::new("order"), Some(&text));
    let table = DeTable::parse(&text).map_err(|error| Unedited::Unwritten(error.to_string()))?;
    let node = Spanned::new(0..text.len(), DeValue::Table(table.into_inner()));
    let environment = &|_: &str| None;
    let (folder, path) = (None, Vec::new());
    let mut reader = Reader { source, folder, environment, path, findings: &mut findings };
    let read = Backend::read(&node, &mut reader);
    match read {
        Some(backend) if !findings.problems.has_errors() => Ok(backend),
        _ => Err(Unedited::Config(Box::new(findings.problems))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(backends: &str) -> Config {
        Config::parse(&format!(
            "[upstream.app]\nbackends = [{backends}]\n[tcp.t]\nlisten = \":1\"\nupstream = \"app\"\n"
        ))
        .unwrap()
    }

    fn keys(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn backends_come_change_and_go_as_a_file_would_have_them() {
        let mut now = config("\"127.0.0.1:1\"");
        now.edit("app", "127.0.0.1:2", &Edit::Add(keys(json!({ "weight": 3 })))).unwrap();
        assert_eq!(now, config("\"127.0.0.1:1\", { address = \"127.0.0.1:2\", weight = 3 }"));
        let patch = keys(json!({ "connections-max": 9, "weight": null }));
        now.edit("app", "127.0.0.1:2", &Edit::Patch(patch)).unwrap();
        let expected = "\"127.0.0.1:1\", { address = \"127.0.0.1:2\", connections-max = 9 }";
        assert_eq!(now, config(expected));
        now.edit("app", "127.0.0.1:2", &Edit::Put(keys(json!({ "backup": true })))).unwrap();
        now.edit("app", "127.0.0.1:1", &Edit::Remove).unwrap();
        assert_eq!(now, config("{ address = \"127.0.0.1:2\", backup = true }"));
    }

    #[test]
    fn what_no_file_could_say_is_refused_and_changes_nothing() {
        let before = config("\"127.0.0.1:1\"");
        let refused = |upstream: &str, backend: &str, edit: Edit| {
            let mut config = before.clone();
            let error = config.edit(upstream, backend, &edit).unwrap_err();
            assert_eq!(config, before);
            error
        };
        let patch = |value| Edit::Patch(keys(value));
        let (app, one) = ("app", "127.0.0.1:1");
        assert!(matches!(refused("none", one, Edit::Remove), Unedited::NoUpstream(_)));
        assert!(matches!(refused(app, "127.0.0.1:9", Edit::Remove), Unedited::NoBackend(_)));
        assert!(matches!(refused(app, one, Edit::Add(Map::new())), Unedited::IsThere));
        for wrong in [json!({ "wieght": 3 }), json!({ "weight": -1 }), json!({ "weight": "a" })] {
            assert!(matches!(refused(app, one, patch(wrong)), Unedited::Config(_)));
        }
        let other = refused(app, one, patch(json!({ "address": "127.0.0.1:2" })));
        assert!(matches!(other, Unedited::Unwritten(_)));
        let nowhere = refused(app, "nonsense", Edit::Add(Map::new()));
        assert!(matches!(nowhere, Unedited::Config(_)), "{nowhere:?}");
    }

    #[test]
    fn what_a_file_takes_back_is_told_and_what_it_has_too_is_no_loss() {
        let before = config("\"127.0.0.1:1\", \"127.0.0.1:2\"");
        let now = config("\"127.0.0.1:2\", \"127.0.0.1:3\"");
        assert_eq!(
            taken_back(&before, &now, &before),
            [
                "app/127.0.0.1:3: added over the admin API, the file takes that back",
                "app/127.0.0.1:1: removed over the admin API, the file takes that back",
            ]
        );
        assert!(taken_back(&before, &now, &now).iter().all(|line| line.ends_with("has that too")));
        assert!(taken_back(&now, &now, &before).is_empty());
    }
}
