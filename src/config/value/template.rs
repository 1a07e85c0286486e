//! Text with variables in braces: `https://{host}{uri}`. It is taken apart once, when a config is verified or
//! compiled, so that what a client sends is only ever put in and never read for variables itself.

use std::str::FromStr;

use super::choice::choice;
use super::{Spelled, chosen};
use crate::config::problem::{Misread, shown};

choice! {
    /// Something that is known of a request.
    pub enum Variable ("a variable here") {
        /// The client's address.
        ClientIp = "client.ip",
        /// The port that the client comes from, where it is known.
        ClientPort = "client.port",
        /// The subject of the client's certificate, as `CN=device-1,O=Example`; nothing where it has shown none.
        ClientSubject = "client.subject",
        /// Who vouches for that certificate.
        ClientIssuer = "client.issuer",
        /// Its SHA-256.
        ClientFingerprint = "client.fingerprint",
        /// Its serial number.
        ClientSerial = "client.serial",
        /// Its further names (SAN), with commas between them.
        ClientNames = "client.names",
        /// The value of a cookie.
        Cookie = "cookie.NAME",
        /// The value of a header of the request.
        Header = "header.NAME",
        /// The host, without its port.
        Host = "host",
        /// The name of the listener.
        Listener = "listener",
        /// The method.
        Method = "method",
        /// The path, without the query.
        Path = "path",
        /// What stands after the `?`.
        Query = "query",
        /// The request id of the access log.
        RequestId = "request.id",
        /// The part of the path that the `*` of the route stands for.
        Rest = "rest",
        /// `http` or `https`.
        Scheme = "scheme",
        /// Path and query.
        Uri = "uri",
        /// The user that `basic-auth` let in.
        User = "user",
    }
}

/// What stands between two braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    /// The value that this has for the request.
    Variable(Variable),
    /// The value of this header of the request.
    Header(String),
    /// The value of this cookie of the request.
    Cookie(String),
}

/// A piece of a template; `V` is the kind of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<V = Placeholder> {
    /// This text.
    Text(String),
    /// The value that this has for the request.
    Variable(V),
}

impl<V> Part<V> {
    /// The text, of a part that is plain text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text(text) => Some(text),
            Part::Variable(_) => None,
        }
    }
}

/// Text with variables in braces. `{{` is a brace; a closing one on its own means itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<V = Placeholder> {
    /// The pieces in order. No two texts stand side by side, and none is empty.
    pub parts: Vec<Part<V>>,
}

impl<V> Default for Template<V> {
    fn default() -> Template<V> {
        Template { parts: Vec::new() }
    }
}

impl Template {
    /// The variables of a redirect.
    pub const IN_REDIRECTS: &'static [Variable] =
        &[Variable::Scheme, Variable::Host, Variable::Path, Variable::Query, Variable::Uri];
    /// The variables of a header that a route sets.
    pub const IN_HEADERS: &'static [Variable] = &[
        Variable::ClientIp,
        Variable::ClientPort,
        Variable::ClientSubject,
        Variable::ClientIssuer,
        Variable::ClientFingerprint,
        Variable::ClientSerial,
        Variable::ClientNames,
        Variable::Cookie,
        Variable::Header,
        Variable::Host,
        Variable::Listener,
        Variable::Method,
        Variable::Path,
        Variable::Query,
        Variable::RequestId,
        Variable::Scheme,
        Variable::Uri,
        Variable::User,
    ];
    /// The variables of a path that a route puts in the place of the client's.
    pub const IN_PATHS: &'static [Variable] = &[Variable::Path, Variable::Rest];

    /// Whether this variable stands in it.
    pub fn has(&self, variable: Variable) -> bool {
        self.parts.contains(&Part::Variable(Placeholder::Variable(variable)))
    }

    /// Takes text apart; a variable that is not among the known ones is told the nearest of them.
    pub fn read(text: &str, known: &[Variable]) -> Result<Template, Misread> {
        Template::read_with(text, |name| variable(name, known))
    }
}

impl<V> Template<V> {
    /// Takes text apart; what stands between braces is read by `variable`.
    pub fn read_with(
        text: &str,
        variable: impl Fn(&str) -> Result<V, Misread>,
    ) -> Result<Template<V>, Misread> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(literal) = after.strip_prefix('{') {
                plain.push('{');
                rest = literal;
                continue;
            }
            let Some((name, behind)) = after.split_once('}') else {
                let message = format!("a \"{{\" is never closed in \"{}\"", shown(text));
                return Err(Misread::new(message).advise("write \"{{\" for a brace"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable(variable(name)?));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }
}

/// Takes text apart that is full of braces of its own, such as styles, scripts and JSON: only a variable that is known is
/// one.
pub(crate) fn read_among_braces<V: Spelled + FromStr>(text: &str) -> Template<V> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        let found = V::CHOICES.iter().find_map(|name| {
            let behind = after.strip_prefix(name)?.strip_prefix('}')?;
            Some((name.parse().ok()?, behind))
        });
        match found {
            Some((variable, behind)) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Variable(variable));
                rest = behind;
            }
            None => {
                plain.push('{');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Template { parts }
}

fn variable(name: &str, known: &[Variable]) -> Result<Placeholder, Misread> {
    type Named = fn(String) -> Placeholder;
    let named: [(Variable, &str, Named); 2] = [
        (Variable::Header, "header.", Placeholder::Header as Named),
        (Variable::Cookie, "cookie.", Placeholder::Cookie as Named),
    ];
    for (variable, prefix, of_name) in named.into_iter().filter(|(one, ..)| known.contains(one)) {
        match name.strip_prefix(prefix) {
            Some(name) if evenkeel_wire::is_name(name.as_bytes()) => {
                return Ok(of_name(name.to_owned()));
            }
            Some(name) => {
                let message = format!("\"{}\" is not a name", shown(name));
                return Err(Misread::new(message).advise(format!("write \"{{{variable}}}\"")));
            }
            None => {}
        }
    }
    let words: Vec<_> = known.iter().map(|variable| (variable.to_string(), *variable)).collect();
    let choices: Vec<_> = words.iter().map(|(word, variable)| (word.as_str(), *variable)).collect();
    chosen(name, &choices, "a variable here").map(Placeholder::Variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn text_is_taken_apart_into_words_and_variables() {
        let read = |text| Template::read(text, Template::IN_REDIRECTS).unwrap().parts;
        let scheme = Part::Variable(Placeholder::Variable(Variable::Scheme));
        let uri = Part::Variable(Placeholder::Variable(Variable::Uri));
        assert_eq!(read("{scheme}://a{uri}"), [scheme, text("://a"), uri.clone()]);
        assert_eq!(read("{uri}{uri}"), [uri.clone(), uri]);
        assert_eq!(read("a{{host}}b}"), [text("a{host}}b}")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_variable_that_is_not_known_here_is_told_those_that_are() {
        let wrong = Template::read("{hots}", Template::IN_REDIRECTS).unwrap_err();
        assert_eq!(wrong.message, "\"hots\" is not a variable here");
        assert!(wrong.advice.unwrap().starts_with("did you mean \"host\"?"));
        let wrong = Template::read("{uri}", Template::IN_PATHS).unwrap_err();
        assert!(wrong.advice.unwrap().contains("\"path\", \"rest\""));
        for bad in ["{", "a{host", "{}", "{{{", "{ host }", "{Host}"] {
            assert!(Template::read(bad, Template::IN_REDIRECTS).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_and_cookies_are_named_by_those_who_may() {
        let read = |text| Template::read(text, Template::IN_HEADERS);
        let header = Part::Variable(Placeholder::Header("X-A".to_owned()));
        assert_eq!(
            read("{header.X-A}{cookie.a}").unwrap().parts,
            [header, Part::Variable(Placeholder::Cookie("a".to_owned()))]
        );
        assert_eq!(read("{header.}").unwrap_err().message, "\"\" is not a name");
        assert!(read("{cookie.a b}").is_err() && read("{headers.a}").is_err());
        assert!(Template::read("{header.a}", Template::IN_REDIRECTS).is_err());
    }

    #[test]
    fn braces_that_are_no_variable_may_stay() {
        let text = |text: &str| Part::Text(text.to_owned());
        let parts = read_among_braces("a{b}{host}{{method}{request.id").parts;
        let (host, method) = (Part::Variable(Variable::Host), Part::Variable(Variable::Method));
        assert_eq!(parts, [text("a{b}"), host, text("{"), method, text("{request.id")]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_among_braces_is_lost(text in "[{}a.]*|\\PC*|(\\{host\\}|[{}s])*") {
            let whole: String = read_among_braces::<Variable>(&text)
                .parts
                .into_iter()
                .map(|part| match part {
                    Part::Text(text) => text,
                    Part::Variable(variable) => format!("{{{variable}}}"),
                })
                .collect();
            assert_eq!(whole, text);
        }

        #[test]
        fn no_text_makes_a_template_panic(text in "[{}a.h]*|\\PC*") {
            let _ = Template::read(&text, Template::IN_HEADERS);
        }
    }
}
