//! What an access line looks like, and what of a record can stand in one of a person's own making. A template is taken
//! apart when the config is read, so that nothing a client sends is ever looked at for variables.

use std::fmt;
use std::str::FromStr;

use super::choice::choice;
use super::template::{Part, Template};
use super::{Spelled, chosen, spelled};
use crate::config::problem::{Misread, nearest, shown};

choice! {
    /// Something that is recorded of a connection or a request.
    pub enum Recorded ("a variable of an access line") {
        /// When it began, as RFC 3339 in UTC.
        Time = "time",
        /// The same as the common log format writes it, without brackets.
        TimeCommon = "time.common",
        /// The client's address and port.
        Client = "client",
        /// The client's address.
        ClientIp = "client.ip",
        /// The name that a TLS client asked for.
        Sni = "sni",
        /// The subject of the client's certificate.
        ClientSubject = "client.subject",
        /// Who vouches for that certificate.
        ClientIssuer = "client.issuer",
        /// Its SHA-256.
        ClientFingerprint = "client.fingerprint",
        /// Its serial number.
        ClientSerial = "client.serial",
        /// Its further names.
        ClientNames = "client.names",
        /// The listener's name.
        Listener = "listener",
        /// The upstream's name.
        Upstream = "upstream",
        /// The backend's address.
        Backend = "backend",
        /// Why it ended.
        Why = "why",
        /// Whose doing that was.
        Side = "side",
        /// What more is known of a failure.
        Detail = "detail",
        /// Bytes from the client; on HTTP, of the request's body.
        BytesUp = "bytes.up",
        /// Bytes to the client; on HTTP, of the answer's body.
        BytesDown = "bytes.down",
        /// Milliseconds spent waiting for a place at a backend.
        QueueMs = "queue.ms",
        /// Milliseconds spent connecting.
        ConnectMs = "connect.ms",
        /// Milliseconds until the backend's first byte.
        FirstMs = "first.ms",
        /// Milliseconds from beginning to end.
        TotalMs = "total.ms",
        /// Backends tried.
        Tried = "tried",
        /// HTTP: the request's id.
        RequestId = "request.id",
        /// HTTP: the first line of the request.
        Request = "request",
        /// HTTP: the method.
        Method = "method",
        /// HTTP: the host that was asked for, with its port.
        Host = "host",
        /// HTTP: path and query.
        Uri = "uri",
        /// HTTP: the path, without the query.
        Path = "path",
        /// HTTP: what stands after the `?`.
        Query = "query",
        /// HTTP: the version, as `HTTP/1.1`.
        Protocol = "protocol",
        /// HTTP: the status the client was answered with.
        Status = "status",
    }
}

/// A variable of an access line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessVariable {
    /// What is recorded anyway.
    Recorded(Recorded),
    /// A header of the request, by its name in lower case.
    Header(String),
}

/// What an access line looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// The common log format of httpd.
    Common,
    /// The combined log format of httpd.
    Combined,
    /// Text with variables, as it was written and taken apart.
    Own {
        /// As it stands in the config.
        written: String,
        /// The same in pieces.
        template: Template<AccessVariable>,
    },
}

const WORDS: &[(&str, AccessFormat)] = &[
    ("text", AccessFormat::Text),
    ("json", AccessFormat::Json),
    ("common", AccessFormat::Common),
    ("combined", AccessFormat::Combined),
];

/// What stands before the name of a header.
const HEADER: &str = "header.";

/// The longest template.
const TEMPLATE_BYTES_MAX: usize = 4096;

impl AccessFormat {
    /// The headers of a request that a line shows beyond those that are always recorded.
    pub fn headers(&self) -> Vec<String> {
        let AccessFormat::Own { template, .. } = self else { return Vec::new() };
        let named = template.parts.iter().filter_map(|part| match part {
            Part::Variable(AccessVariable::Header(header)) => Some(header.clone()),
            _ => None,
        });
        let mut headers: Vec<_> = named.collect();
        headers.sort();
        headers.dedup();
        headers
    }
}

impl fmt::Display for AccessFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let AccessFormat::Own { written, .. } = self {
            return f.write_str(written);
        }
        let word = WORDS.iter().find(|(_, format)| format == self);
        f.write_str(word.map_or("", |(word, _)| *word))
    }
}

impl FromStr for AccessFormat {
    type Err = Misread;

    fn from_str(text: &str) -> Result<AccessFormat, Misread> {
        if let Some((_, format)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(format.clone());
        }
        if !text.contains('{') {
            let misread = Misread::new(format!("\"{}\" is no format of access lines", shown(text)));
            let near = nearest(text, WORDS.iter().map(|(word, _)| *word));
            let near = near.map_or(String::new(), |near| format!("did you mean \"{near}\"? "));
            return Err(misread.advise(format!(
                "{near}there are \"text\", \"json\", \"common\", \"combined\", and text with variables: \"{{client.ip}} {{status}}\""
            )));
        }
        if text.len() > TEMPLATE_BYTES_MAX {
            let message = format!("a format of {} bytes is too long", text.len());
            return Err(Misread::new(message)
                .advise(format!("at most {TEMPLATE_BYTES_MAX} bytes may stand here")));
        }
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Misread::new("an access line is one line, without control characters")
                .advise("leave them out; a tab is fine"));
        }
        let template = Template::read_with(text, variable)?;
        Ok(AccessFormat::Own { written: text.to_owned(), template })
    }
}

fn variable(name: &str) -> Result<AccessVariable, Misread> {
    if let Some(header) = name.strip_prefix(HEADER) {
        return match evenkeel_wire::is_name(header.as_bytes()) {
            true => Ok(AccessVariable::Header(header.to_ascii_lowercase())),
            false => {
                let message = format!("\"{}\" is not the name of a header", shown(header));
                Err(Misread::new(message).advise("write one such as {header.user-agent}"))
            }
        };
    }
    let choices: Vec<_> =
        Recorded::CHOICES.iter().filter_map(|word| Some((*word, word.parse().ok()?))).collect();
    match chosen(name, &choices, "a variable of an access line") {
        Ok(recorded) => Ok(AccessVariable::Recorded(recorded)),
        Err(misread) => {
            let more = misread.advice.clone().unwrap_or_default();
            Err(misread.advise(format!("{more}, and \"header.NAME\"")))
        }
    }
}

impl Spelled for AccessFormat {
    const WORDS: &'static str =
        "\"text\", \"json\", \"common\", \"combined\" or text with variables";
    const PATTERN: Option<&'static str> = Some("^(text|json|common|combined)$|\\{");
}

spelled!(AccessFormat);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_written_back() {
        for text in ["text", "json", "common", "combined", "{client.ip}\t\"{request}\" {{x}"] {
            assert_eq!(text.parse::<AccessFormat>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_a_line_is_refused() {
        for text in ["", "jsno", "plain words", "{", "{host", "{}", "{hots}", "{header.}"] {
            assert!(text.parse::<AccessFormat>().is_err(), "{text}");
        }
        for text in ["{host}\n", "{host}\u{1b}[0m", "{header.a b}", "{header.a:b}"] {
            assert!(text.parse::<AccessFormat>().is_err(), "{text}");
        }
        assert!(format!("{{host}}{}", "x".repeat(4096)).parse::<AccessFormat>().is_err());
        let wrong = "jsno".parse::<AccessFormat>().unwrap_err();
        assert!(wrong.advice.unwrap().starts_with("did you mean \"json\"?"));
        let wrong = "{statsu}".parse::<AccessFormat>().unwrap_err();
        let advice = wrong.advice.unwrap();
        assert!(advice.starts_with("did you mean \"status\"?"), "{advice}");
        assert!(advice.ends_with("and \"header.NAME\""), "{advice}");
    }

    #[test]
    fn headers_are_named_once_and_in_lower_case() {
        let format: AccessFormat = "{header.X-B} {header.a} {header.x-b} {host}".parse().unwrap();
        assert_eq!(format.headers(), ["a", "x-b"]);
    }
}
