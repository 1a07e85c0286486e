//! One record as one line: text, JSON, the formats of httpd, or a template. Whatever a client sends, it must stay one line,
//! and no byte of it may speak to the terminal that shows it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::clock::{write_clf_time, write_time};
use super::ended::{ClientAddress, Ended, RequestLine};
use super::escape;
use crate::config::{AccessFormat, AccessVariable, Part, Recorded, Template};
use crate::tls::Shown;

/// Writes a record, without a line end. The formats of httpd have no words for a connection that is no request: it is
/// written as text.
pub(super) fn write(line: &mut String, format: &AccessFormat, record: &Ended) {
    match (format, &record.request) {
        (AccessFormat::Json, _) => write_json(line, record),
        (AccessFormat::Common, Some(request)) => write_clf(line, record, request),
        (AccessFormat::Combined, Some(request)) => write_combined(line, record, request),
        (AccessFormat::Own { template, .. }, _) => write_template(line, template, record),
        (AccessFormat::Text | AccessFormat::Common | AccessFormat::Combined, _) => {
            write_text(line, record);
        }
    }
}

fn write_text(line: &mut String, record: &Ended) {
    let Ended { client, listener, upstream, why, bytes_up, bytes_down, tried, .. } = record;
    write_time(line, record.at);
    let backend = record.backend.as_deref().unwrap_or("-");
    let _ = write!(
        line,
        " {client} {listener} {upstream} {backend} {} {} up={bytes_up} down={bytes_down} queue=",
        why.as_str(),
        why.side().as_str()
    );
    write_millis(line, record.phases.queue);
    line.push_str(" connect=");
    write_millis(line, record.phases.connect);
    line.push_str(" first=");
    write_millis(line, record.phases.first_byte);
    line.push_str(" total=");
    write_millis(line, Some(record.phases.total));
    let _ = write!(line, " tried={tried}");
    if let Some(request) = &record.request {
        write_request(line, request);
    }
    if let Some(name) = &record.name {
        let _ = write!(line, " sni={name:?}");
    }
    if let Some(shown) = &record.certificate {
        let Shown { subject, fingerprint, .. } = &**shown;
        let _ = write!(line, " subject={subject:?} fingerprint={fingerprint}");
    }
    if let Some(detail) = &record.detail {
        let _ = write!(line, " detail={detail:?}");
    }
}

/// What a client wrote is quoted, with its control characters and quotes escaped: one request is one line.
fn write_request(line: &mut String, request: &RequestLine) {
    match request.status {
        Some(status) => {
            let _ = write!(line, " status={status}");
        }
        None => line.push_str(" status=-"),
    }
    let RequestLine { id, host, user_agent, referer, .. } = request;
    let _ = write!(line, " id={id} host={host:?} request={:?}", first_line(request));
    for (name, value) in [("agent", user_agent), ("referer", referer)] {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value:?}");
        }
    }
}

/// The first line of a request; `-` for one that could not be read.
fn first_line(request: &RequestLine) -> String {
    let RequestLine { method, target, version, .. } = request;
    if target.is_empty() { "-".to_owned() } else { format!("{method} {target} {version}") }
}

fn write_json(line: &mut String, record: &Ended) {
    let mut time = String::new();
    write_time(&mut time, record.at);
    let millis = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1000.0);
    let mut value = serde_json::json!({
        "time": time,
        "client": record.client.to_string(),
        "listener": &*record.listener,
        "upstream": &*record.upstream,
        "backend": record.backend.as_deref(),
        "why": record.why.as_str(),
        "side": record.why.side().as_str(),
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "queue_ms": millis(record.phases.queue),
        "connect_ms": millis(record.phases.connect),
        "first_byte_ms": millis(record.phases.first_byte),
        "total_ms": millis(Some(record.phases.total)),
        "tried": record.tried,
        "sni": record.name.as_deref(),
        "detail": record.detail,
    });
    if let (Some(request), Some(object)) = (&record.request, value.as_object_mut()) {
        let request = serde_json::json!({
            "id": request.id,
            "method": request.method,
            "host": request.host,
            "target": request.target,
            "protocol": request.version,
            "status": request.status,
            "user_agent": request.user_agent,
            "referer": request.referer,
        });
        object.extend(request.as_object().cloned().into_iter().flatten());
    }
    if let (Some(shown), Some(object)) = (&record.certificate, value.as_object_mut()) {
        let certificate = serde_json::json!({
            "subject": shown.subject,
            "issuer": shown.issuer,
            "fingerprint": shown.fingerprint,
            "serial": shown.serial,
            "names": shown.names,
        });
        object.insert("certificate".to_owned(), certificate);
    }
    escape::write_json(line, &value.to_string());
}

/// What is known of a record by names, for journald.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    pub(super) fn of(record: &Ended) -> Fields {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let request = record.request.as_deref();
        let of_request = |part: fn(&RequestLine) -> &str| text(part(request?));
        let named = [
            ("CLIENT", text(&record.client.to_string())),
            ("LISTENER", text(&record.listener)),
            ("UPSTREAM", text(&record.upstream)),
            ("BACKEND", record.backend.as_deref().and_then(text)),
            ("WHY", text(record.why.as_str())),
            ("SIDE", text(record.why.side().as_str())),
            ("DETAIL", record.detail.as_deref().and_then(text)),
            ("SNI", record.name.as_deref().and_then(text)),
            ("BYTES_UP", text(&record.bytes_up.to_string())),
            ("BYTES_DOWN", text(&record.bytes_down.to_string())),
            ("TOTAL_MS", text(&record.phases.total.as_millis().to_string())),
            ("REQUEST_ID", of_request(|request| &request.id)),
            ("METHOD", of_request(|request| &request.method)),
            ("HOST", of_request(|request| &request.host)),
            ("TARGET", of_request(|request| &request.target)),
            ("STATUS", request.and_then(|request| text(&request.status?.to_string()))),
        ];
        let known = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Fields(known.map(|(name, value)| (name, plain(value))).collect())
    }

    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// A value in which nothing acts.
fn plain(value: String) -> String {
    match value.contains(escape::acts) {
        true => value.escape_debug().to_string(),
        false => value,
    }
}

/// `%h %l %u %t "%r" %>s %b`, as httpd's mod_log_config defines them.
fn write_clf(line: &mut String, record: &Ended, request: &RequestLine) {
    write_ip(line, record.client);
    line.push_str(" - - [");
    write_clf_time(line, record.at);
    line.push_str("] \"");
    write_escaped(line, &first_line(request));
    line.push_str("\" ");
    write_number(line, request.status);
    line.push(' ');
    write_number(line, Some(record.bytes_down).filter(|bytes| *bytes > 0));
}

/// The common format, then `"%{Referer}i" "%{User-agent}i"`.
fn write_combined(line: &mut String, record: &Ended, request: &RequestLine) {
    write_clf(line, record, request);
    for value in [&request.referer, &request.user_agent] {
        line.push_str(" \"");
        write_escaped(line, value.as_deref().unwrap_or("-"));
        line.push('"');
    }
}

fn write_template(line: &mut String, template: &Template<AccessVariable>, record: &Ended) {
    for part in &template.parts {
        match part {
            Part::Text(text) => line.push_str(text),
            Part::Variable(AccessVariable::Recorded(recorded)) => {
                let begin = line.len();
                write_recorded(line, *recorded, record);
                if line.len() == begin {
                    line.push('-');
                }
            }
            Part::Variable(AccessVariable::Header(name)) => {
                write_escaped(line, header(record, name).unwrap_or("-"));
            }
        }
    }
}

fn header<'r>(record: &'r Ended, name: &str) -> Option<&'r str> {
    let headers = &record.request.as_ref()?.headers;
    let found = headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// What is recorded under this name; nothing where nothing is.
fn write_recorded(line: &mut String, recorded: Recorded, record: &Ended) {
    match recorded {
        Recorded::Time => write_time(line, record.at),
        Recorded::TimeCommon => write_clf_time(line, record.at),
        Recorded::Client => put(line, record.client),
        Recorded::ClientIp => write_ip(line, record.client),
        Recorded::ClientSubject
        | Recorded::ClientIssuer
        | Recorded::ClientFingerprint
        | Recorded::ClientSerial
        | Recorded::ClientNames => {
            if let Some(shown) = &record.certificate {
                write_of_certificate(line, recorded, shown);
            }
        }
        Recorded::Sni => write_escaped(line, record.name.as_deref().unwrap_or_default()),
        Recorded::Listener => write_escaped(line, &record.listener),
        Recorded::Upstream => write_escaped(line, &record.upstream),
        Recorded::Backend => write_escaped(line, record.backend.as_deref().unwrap_or_default()),
        Recorded::Why => line.push_str(record.why.as_str()),
        Recorded::Side => line.push_str(record.why.side().as_str()),
        Recorded::Detail => write_escaped(line, record.detail.as_deref().unwrap_or_default()),
        Recorded::BytesUp => put(line, record.bytes_up),
        Recorded::BytesDown => put(line, record.bytes_down),
        Recorded::QueueMs => write_bare_millis(line, record.phases.queue),
        Recorded::ConnectMs => write_bare_millis(line, record.phases.connect),
        Recorded::FirstMs => write_bare_millis(line, record.phases.first_byte),
        Recorded::TotalMs => write_bare_millis(line, Some(record.phases.total)),
        Recorded::Tried => put(line, record.tried),
        Recorded::RequestId
        | Recorded::Request
        | Recorded::Method
        | Recorded::Host
        | Recorded::Uri
        | Recorded::Path
        | Recorded::Query
        | Recorded::Protocol
        | Recorded::Status => {
            if let Some(request) = &record.request {
                write_of_request(line, recorded, request);
            }
        }
    }
}

fn write_of_certificate(line: &mut String, recorded: Recorded, shown: &Shown) {
    match recorded {
        Recorded::ClientSubject => write_escaped(line, &shown.subject),
        Recorded::ClientIssuer => write_escaped(line, &shown.issuer),
        Recorded::ClientFingerprint => line.push_str(&shown.fingerprint),
        Recorded::ClientSerial => line.push_str(&shown.serial),
        _ => write_escaped(line, &shown.names_in_one_line()),
    }
}

fn write_of_request(line: &mut String, recorded: Recorded, request: &RequestLine) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match recorded {
        Recorded::RequestId => write_escaped(line, &request.id),
        Recorded::Request => write_escaped(line, &first_line(request)),
        Recorded::Method if !request.target.is_empty() => write_escaped(line, &request.method),
        Recorded::Protocol if !request.target.is_empty() => line.push_str(&request.version),
        Recorded::Host => write_escaped(line, &request.host),
        Recorded::Uri => write_escaped(line, &request.target),
        Recorded::Path => write_escaped(line, path),
        Recorded::Query => write_escaped(line, query),
        Recorded::Status => write_number(line, request.status),
        // What is no matter of a request, or of one that could be read.
        _ => {}
    }
}

/// As nginx and httpd do: what is not printable ASCII, a quote or a backslash becomes `\xHH`, byte by byte.
fn write_escaped(line: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => put(line, format_args!("\\x{byte:02X}")),
            _ => line.push(char::from(byte)),
        }
    }
}

fn write_ip(line: &mut String, client: ClientAddress) {
    match client {
        ClientAddress::Ip(address) => put(line, address.ip()),
        ClientAddress::Told(address) => put(line, address),
        ClientAddress::Unix => line.push_str("unix"),
    }
}

fn put(line: &mut String, value: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(line, "{value}");
}

fn write_number(line: &mut String, number: Option<impl fmt::Display>) {
    match number {
        Some(number) => put(line, number),
        None => line.push('-'),
    }
}

fn write_millis(line: &mut String, time: Option<Duration>) {
    write_bare_millis(line, time);
    line.push_str(if time.is_some() { "ms" } else { "-" });
}

fn write_bare_millis(line: &mut String, time: Option<Duration>) {
    if let Some(time) = time {
        let micros = time.as_micros();
        let _ = write!(line, "{}.{:03}", micros / 1000, micros % 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use crate::observe::ended::{Phases, Why};

    fn record() -> Ended {
        Ended {
            at: UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            client: ClientAddress::Ip("192.0.2.7:4242".parse().unwrap()),
            listener: "public".into(),
            upstream: "app".into(),
            backend: Some("10.0.0.1:80".into()),
            why: Why::ConnectRefused,
            detail: Some("two\nlines \u{1b}[31m \u{9b}31m\u{2028}".into()),
            bytes_up: 3,
            bytes_down: 4,
            phases: Phases { total: Duration::from_micros(1_500), ..Phases::default() },
            tried: 2,
            name: Some("a\n.test".into()),
            certificate: Some(Arc::new(Shown {
                subject: "CN=\"é".into(),
                cn: None,
                issuer: "CN=ca".into(),
                fingerprint: "00ff".into(),
                serial: "01".into(),
                names: vec!["a.test".into(), "b,c".into()],
            })),
            request: None,
        }
    }

    fn request() -> RequestLine {
        RequestLine {
            id: "0123".into(),
            method: "GET".into(),
            host: "app.test:80".into(),
            target: "/a\"b?c=d".into(),
            version: "HTTP/1.1".into(),
            status: Some(503),
            user_agent: Some("a\\b\r\n\0\u{1b}é".into()),
            referer: None,
            headers: vec![("x-a".into(), "one \"two\"".into()), ("x-empty".into(), String::new())],
        }
    }

    fn written(format: &str, record: &Ended) -> String {
        let mut line = String::new();
        write(&mut line, &format.parse().unwrap(), record);
        line
    }

    fn asked() -> Ended {
        Ended { request: Some(Box::new(request())), ..record() }
    }

    #[test]
    fn a_text_line_says_who_where_why_and_how_much() {
        let line = written("text", &record());
        assert_eq!(
            line,
            "2024-02-29T12:34:56.789Z 192.0.2.7:4242 public app 10.0.0.1:80 connect-refused backend \
             up=3 down=4 queue=- connect=- first=- total=1.500ms tried=2 \
             sni=\"a\\n.test\" subject=\"CN=\\\"é\" fingerprint=00ff \
             detail=\"two\\nlines \\u{1b}[31m \\u{9b}31m\\u{2028}\""
        );
        assert_eq!(line, written("combined", &record()), "no request, no format of httpd");
        assert_eq!(line, written("common", &record()));
    }

    #[test]
    fn a_line_is_one_line_whatever_the_detail_holds() {
        let line = written("json", &record());
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["why"], "connect-refused");
        assert_eq!(value["total_ms"], 1.5);
        assert_eq!(value["detail"], *record().detail.unwrap());
    }

    #[test]
    fn the_formats_of_httpd_are_those_of_httpd() {
        let common =
            "192.0.2.7 - - [29/Feb/2024:12:34:56 +0000] \"GET /a\\x22b?c=d HTTP/1.1\" 503 4";
        assert_eq!(written("common", &asked()), common);
        let combined = format!("{common} \"-\" \"a\\x5Cb\\x0D\\x0A\\x00\\x1B\\xC3\\xA9\"");
        assert_eq!(written("combined", &asked()), combined);
        let unread = RequestLine { id: "1".into(), method: "GET".into(), ..RequestLine::default() };
        let unread = Ended { request: Some(Box::new(unread)), bytes_down: 0, ..record() };
        assert!(written("common", &unread).ends_with("+0000] \"-\" - -"));
    }

    #[test]
    fn every_variable_has_its_value() {
        let expected = [
            "2024-02-29T12:34:56.789Z",
            "29/Feb/2024:12:34:56 +0000",
            "192.0.2.7:4242",
            "192.0.2.7",
            "a\\x0A.test",
            "CN=\\x22\\xC3\\xA9",
            "CN=ca",
            "00ff",
            "01",
            "a.test,b\\x5C,c",
            "public",
            "app",
            "10.0.0.1:80",
            "connect-refused",
            "backend",
            "two\\x0Alines \\x1B[31m \\xC2\\x9B31m\\xE2\\x80\\xA8",
            "3",
            "4",
            "-",
            "-",
            "-",
            "1.500",
            "2",
            "0123",
            "GET /a\\x22b?c=d HTTP/1.1",
            "GET",
            "app.test:80",
            "/a\\x22b?c=d",
            "/a\\x22b",
            "c=d",
            "HTTP/1.1",
            "503",
        ];
        use crate::config::value::Spelled;
        assert_eq!(Recorded::CHOICES.len(), expected.len());
        for (name, value) in Recorded::CHOICES.iter().zip(expected) {
            assert_eq!(written(&format!("<{{{name}}}>"), &asked()), format!("<{value}>"), "{name}");
        }
        let line = written("{header.X-A}|{header.x-empty}|{header.x-none}", &asked());
        assert_eq!(line, "one \\x22two\\x22|-|-");
    }

    #[test]
    fn every_variable_is_in_the_docs() {
        use crate::config::value::Spelled;
        let page = include_str!("../../docs/config.md");
        for name in Recorded::CHOICES {
            let row = format!("| `{{{name}}}` |");
            assert!(page.contains(&row), "docs/config.md has no row {row}");
        }
    }

    #[test]
    fn a_connection_that_is_no_request_leaves_its_variables_empty() {
        let line = written("{why} {method} {status} {request.id} {header.a} {{}", &record());
        assert_eq!(line, "connect-refused - - - - {}");
    }
}
