//! What differs between two configs, in words: which sections come and go, and which keys of the others change. It goes to logs and to
//! whoever asks, so it never has the secrets of either.

use serde_json::{Map, Value};

use super::Config;
use super::problem::shown;
use super::secrets;

/// Longer values are not written out.
const WRITTEN_MAX: usize = 80;

/// A line for each section that comes or goes, and for each key that changes, in alphabetical order.
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let (old, new) = (whole(old), whole(new));
    for (name, value) in &new {
        compare(name, old.get(name).unwrap_or(&Value::Null), value, &mut lines);
    }
    lines
}

fn whole(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Tables are looked into; lists say what came and what went.
fn compare(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let is_of_sections = matches!(path, "upstream" | "tcp" | "http");
            for (key, value) in new {
                let below = format!("{path}.{key}");
                match old.get(key) {
                    None if is_of_sections => lines.push(format!("{below}: new")),
                    old => compare(&below, old.unwrap_or(&Value::Null), value, lines),
                }
            }
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                let below = format!("{path}.{key}");
                match is_of_sections {
                    true => lines.push(format!("{below}: removed")),
                    false => lines.push(format!("{below}: back to its default")),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let came = new.iter().filter(|item| !old.contains(item)).map(|item| ("+", item));
            let went = old.iter().filter(|item| !new.contains(item)).map(|item| ("-", item));
            let parts: Vec<_> = came
                .chain(went)
                .map(|(sign, item)| format!("{sign}{}", written(path, item)))
                .collect();
            let said = if parts.is_empty() { "another order".to_owned() } else { parts.join(" ") };
            lines.push(format!("{path}: {said}"));
        }
        _ => {
            lines.push(format!("{path}: {} instead of {}", written(path, new), written(path, old)))
        }
    }
}

fn written(path: &str, value: &Value) -> String {
    let text = match &secrets::hide(path, value) {
        Value::Null => "nothing".to_owned(),
        Value::Object(map) if map.contains_key("address") => plain_backend(map),
        other => other.to_string(),
    };
    match text.len() {
        0..=WRITTEN_MAX => text,
        _ => format!("{}...", shown(text.get(..WRITTEN_MAX).unwrap_or("a long value"))),
    }
}

/// A backend as it would be written, without its defaults.
fn plain_backend(backend: &Map<String, Value>) -> String {
    let is_plain = |(key, value): &(&String, &Value)| match key.as_str() {
        "address" => true,
        "weight" => **value != 1,
        "backup" => **value != false,
        _ => !value.is_null(),
    };
    let parts: Vec<_> = backend.iter().filter(is_plain).collect();
    match &parts[..] {
        [(_, address)] => address.to_string(),
        parts => {
            let parts: Vec<_> =
                parts.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("{{ {} }}", parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text).unwrap()
    }

    #[test]
    fn a_secret_that_differs_is_not_said() {
        let with = |secret: &str| {
            config(&format!(
                "[upstream.app]\nbackends = \":1\"\nhealth = {{ http = \"/\", headers = {{ Authorization = \"{secret}\" }} }}\n\
                 [http.web]\nlisten = \":1\"\n[[http.web.route]]\nupstream = \"app\"\n\
                 request-headers = {{ set = {{ X-Api-Key = \"{secret}\" }} }}\n"
            ))
        };
        let said = changes(&with("canary-1"), &with("canary-2"));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            !said.concat().contains("canary") && said[1].contains("Authorization: \"***\""),
            "{said:?}"
        );
    }

    #[test]
    fn what_differs_is_said_by_section_and_key() {
        let old = config(
            "[upstream.app]\nbackends = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
             [upstream.old]\nbackends = \"127.0.0.1:9\"\n\
             [tcp.t]\nlisten = \":1\"\nupstream = \"app\"\nidle-timeout = \"5s\"\n",
        );
        let new = config(
            "[process]\nworkers = 3\n\
             [upstream.app]\nbackends = [\"127.0.0.1:2\", { address = \"127.0.0.1:3\", weight = 2 }]\n\
             balance = \"random\"\n\
             [tcp.t]\nlisten = \":1\"\nupstream = \"app\"\n\
             [tcp.u]\nlisten = \":2\"\nupstream = \"app\"\n",
        );
        assert_eq!(
            changes(&old, &new),
            [
                "process.workers: 3 instead of nothing",
                "tcp.t.idle-timeout: \"10m\" instead of \"5s\"",
                "tcp.u: new",
                "upstream.app.backends: +{ address = \"127.0.0.1:3\", weight = 2 } -\"127.0.0.1:1\"",
                "upstream.app.balance: \"random\" instead of \"round-robin\"",
                "upstream.old: removed",
            ]
        );
        assert!(changes(&new, &new).is_empty());
    }
}
