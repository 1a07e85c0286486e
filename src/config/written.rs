//! The text of a config file, with changes of its backends written in and without what is secret. Everything else stays as somebody has
//! written it, comments included: a file is somebody's, and only what has changed is ours to touch.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::edit::keys_of;
use super::{Backend, Config, secrets};

/// A text and the places in which it differs from the one it was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) text: String,
    /// Where the old text was replaced, and by how many bytes.
    edits: Vec<(Range<usize>, usize)>,
}

impl Written {
    /// Line and column, from 1, of what was at this place of the old text.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.edits.iter().take_while(|(range, _)| range.start < offset);
        let shifted = before.fold(offset, |at, (range, length)| {
            // What was within is where the new text begins.
            if range.end > offset { at - (offset - range.start) } else { at + length - range.len() }
        });
        let mut end = shifted.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// The file with the backends of the config that is in force, and, unless it is for whoever may read the file, without secrets.
///
/// `before` is the config as it was read: upstreams in which the two do not differ stay as they are written.
pub(crate) fn written(text: &str, before: &Config, now: &Config, hides: bool) -> Written {
    let Ok(table) = DeTable::parse(text) else { return Written::default() };
    let mut edits = Vec::new();
    if let Some(upstreams) = table_of(table.get_ref(), "upstream") {
        for (name, upstream) in upstreams.iter() {
            let DeValue::Table(upstream) = upstream.get_ref() else { continue };
            let list = upstream.iter().find(|(key, _)| key.get_ref() == "backends");
            let name: &str = name.get_ref();
            let (Some((_, list)), Some(was), Some(is)) =
                (list, before.upstream.get(name), now.upstream.get(name))
            else {
                continue;
            };
            if was.backends != is.backends {
                let known = known(text, list.get_ref(), &was.backends);
                edits.push((list.span(), array(&is.backends, &known)));
            }
        }
    }
    if hides {
        find_secrets(table.get_ref(), false, text, &mut edits);
    }
    apply(text, edits)
}

/// The upstreams whose backends stand in this file.
pub(crate) fn upstreams(text: &str) -> Vec<String> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let all = table_of(table.get_ref(), "upstream");
    all.into_iter().flat_map(|all| all.keys().map(|name| name.get_ref().to_string())).collect()
}

fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> Written {
    edits.sort_by_key(|(range, _)| range.start);
    let mut written = Written::default();
    let mut from = 0;
    for (range, new) in edits {
        // Within what was replaced already.
        if range.start < from {
            continue;
        }
        written.text.push_str(&text[from..range.start]);
        written.text.push_str(&new);
        from = range.end;
        written.edits.push((range, new.len()));
    }
    written.text.push_str(&text[from..]);
    written
}

fn table_of<'t>(table: &'t DeTable<'t>, name: &str) -> Option<&'t DeTable<'t>> {
    let found = table.iter().find(|(key, _)| key.get_ref() == name)?;
    match found.1.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// How each backend is written already.
fn known<'a>(
    text: &'a str,
    list: &DeValue<'_>,
    backends: &'a [Backend],
) -> Vec<(&'a Backend, &'a str)> {
    let DeValue::Array(all) = list else { return Vec::new() };
    if all.len() != backends.len() {
        return Vec::new();
    }
    let texts = all.iter().map(|one| text.get(one.span()).unwrap_or_default());
    backends.iter().zip(texts).filter(|(_, text)| !text.is_empty()).collect()
}

fn array(backends: &[Backend], known: &[(&Backend, &str)]) -> String {
    let entry = |backend: &Backend| match known.iter().find(|(other, _)| *other == backend) {
        Some((_, text)) => (*text).to_owned(),
        None => entry(backend),
    };
    let lines: String =
        backends.iter().map(|backend| format!("    {},\n", entry(backend))).collect();
    if lines.is_empty() { "[]".to_owned() } else { format!("[\n{lines}]") }
}

/// A backend as somebody would write it.
fn entry(backend: &Backend) -> String {
    let default = keys_of(&Backend::new(backend.address.clone()));
    let keys = keys_of(backend);
    let is_said = |key: &str| key == "address" || default.get(key) != keys.get(key);
    let quoted = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => {
            toml::Value::from(super::environment::escaped(text)).to_string()
        }
        other => other.to_string(),
    };
    let said: Vec<_> = keys.iter().filter(|(key, _)| is_said(key)).collect();
    match &said[..] {
        [(_, address)] => quoted(address),
        all => {
            let all: Vec<_> =
                all.iter().map(|(key, value)| format!("{key} = {}", quoted(value))).collect();
            format!("{{ {} }}", all.join(", "))
        }
    }
}

/// Finds values that nobody is to read.
fn find_secrets(
    table: &DeTable<'_>,
    is_header: bool,
    text: &str,
    edits: &mut Vec<(Range<usize>, String)>,
) {
    for (key, value) in table.iter() {
        hide((key.get_ref(), is_header), value.get_ref(), value.span(), text, edits);
    }
}

fn hide(
    (key, is_header): (&str, bool),
    value: &DeValue<'_>,
    span: Range<usize>,
    text: &str,
    edits: &mut Vec<(Range<usize>, String)>,
) {
    match value {
        DeValue::Table(table) => {
            find_secrets(table, is_header || secrets::is_of_headers(key), text, edits);
        }
        DeValue::Array(all) => {
            for one in all.iter() {
                hide((key, is_header), one.get_ref(), one.span(), text, edits);
            }
        }
        DeValue::String(said) => {
            let is_key = said.contains("PRIVATE KEY").then(|| secrets::HIDDEN.to_owned());
            if let Some(shown) = is_key.or_else(|| secrets::shown(said, key, is_header)) {
                // Lines stay where they are.
                let breaks = text.get(span.clone()).map_or(0, |old| old.matches('\n').count());
                let hidden = match breaks {
                    0 => toml::Value::from(shown).to_string(),
                    _ => format!("\"\"\"{}{}\"\"\"", "\n".repeat(breaks), secrets::HIDDEN),
                };
                edits.push((span, hidden));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::edit::Edit;
    use super::*;

    const TEXT: &str = "\
# Our shop.
[upstream.app]
backends = [\"127.0.0.1:1\", { address = \"127.0.0.1:2\", weight = 2 }] # two of them
connect-timeout = \"2s\"

[upstream.db]
backends = \"127.0.0.1:3\"

[http.web]
listen = \":1\"
upstream = \"app\"
route = [{ request-headers = { set = { Authorization = \"Basic c2VjcmV0\", X-Api-Key = \"secret-2\", X-Plain = \"shown\" } }, upstream = \"db\" }]
";

    #[test]
    fn only_changed_backends_are_written_anew_and_what_is_read_back_is_in_force() {
        let before = Config::parse(TEXT).unwrap();
        let mut now = before.clone();
        let keys = |text: &str| serde_json::from_str(text).unwrap();
        now.edit("app", "127.0.0.1:9", &Edit::Add(keys("{\"weight\":3}"))).unwrap();
        now.edit("app", "127.0.0.1:1", &Edit::Remove).unwrap();
        now.edit("db", "127.0.0.1:4", &Edit::Add(keys("{}"))).unwrap();
        let written = written(TEXT, &before, &now, false);
        assert_eq!(Config::parse(&written.text).unwrap(), now, "{}", written.text);
        for kept in [
            "# Our shop.",
            "# two of them",
            "{ address = \"127.0.0.1:2\", weight = 2 }",
            "\"127.0.0.1:4\",\n]",
        ] {
            assert!(written.text.contains(kept), "{kept} is not in:\n{}", written.text);
        }
        // What stood behind a change is found again.
        let at = TEXT.find("connect-timeout").unwrap();
        let line = written.text.lines().nth(written.position(at).0 - 1).unwrap();
        assert!(line.starts_with("connect-timeout"), "{line}");
        assert_eq!(super::written(TEXT, &before, &before, false).text, TEXT);
    }

    #[test]
    fn secrets_are_hidden_and_lines_stay_where_they_are() {
        let config = Config::parse(TEXT).unwrap();
        let hidden = written(TEXT, &config, &config, true).text;
        assert!(!hidden.contains("c2VjcmV0") && !hidden.contains("secret-2"), "{hidden}");
        assert!(hidden.contains("X-Plain = \"shown\"") && hidden.contains("connect-timeout"));
        assert_eq!(hidden.lines().count(), TEXT.lines().count());
        let more = "a.health = { send = \"AUTH hunter2\\r\\n\" }\nb.url = \"http://a:hunter2@b/\"\nc.body = \"\"\"-----BEGIN PRIVATE KEY-----\nhunter2\n\"\"\"\nd.token-file = \"shown\"\n";
        let hidden = written(more, &config, &config, true).text;
        assert!(
            !hidden.contains("hunter2") && hidden.contains("d.token-file = \"shown\""),
            "{hidden}"
        );
        assert!(
            hidden.contains("http://a:***@b/") && hidden.lines().count() == more.lines().count()
        );
        assert!(DeTable::parse(&hidden).is_ok(), "{hidden}");
    }
}
