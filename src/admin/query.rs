//! What stands behind the `?` of a path: names with values, each at most once, and none that nobody asked for. A word that is not
//! known is refused, as a filter with a slip in it would mean everything.

use super::message::{Kind, Refusal};

/// The words behind a path.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them; only these names may stand there.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Query, Refusal> {
        let wrong = |what: String| Err(Refusal::new(Kind::Order, what));
        let mut words: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (spaced(name), spaced(value)) else {
                return wrong(format!("\"{pair}\" is not encoded as it has to be"));
            };
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return wrong(format!("\"{name}\" is not known here; there is {known}"));
            }
            if words.iter().any(|(other, _)| *other == name) {
                return wrong(format!("\"{name}\" stands here twice"));
            }
            words.push((name, value));
        }
        Ok(Query(words))
    }

    /// A value, as text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A value, read further.
    pub(super) fn value<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |_| Refusal::new(Kind::Order, format!("{name}=\"{text}\" cannot be read"));
        text.parse().map(Some).map_err(wrong)
    }
}

/// As a form writes it, with `+` for a space.
fn spaced(text: &str) -> Option<String> {
    decoded(&text.replace('+', " "))
}

/// A text without its `%XX`; none if it is not one.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_decoded_and_a_slip_is_refused() {
        let query = Query::read("backend=unix%3A%2Frun%2Fa+b.sock&limit=7", &["backend", "limit"]);
        let query = query.unwrap();
        assert_eq!(query.text("backend"), Some("unix:/run/a b.sock"));
        assert_eq!(query.value::<u32>("limit").unwrap(), Some(7));
        assert!(query.value::<std::net::IpAddr>("limit").is_err());
        for wrong in ["limt=7", "limit=7&limit=8", "limit=%7", "limit=%+1", "limit=%ff"] {
            assert!(Query::read(wrong, &["limit"]).is_err(), "{wrong}");
        }
    }
}
