//! Compression of answers on their way to a client: which of them, in which coding, and what their heads then say.
//! An answer that somebody has coded already, or that its sender wants to arrive as it is, is never touched.
//! The decision looks at heads only, so that HEAD is told the same as GET.

mod encoder;
mod places;

use std::task::{Context, Poll};

use evenkeel_wire::{Fields, Framing, Known, Method, Request, Response, Version, elements};
use tokio::task::coop;

use super::coding::preferred;
use super::headers::Onward;
use super::local::Local;
use crate::config::Coding;
pub(super) use encoder::{Encoder, Failed};
pub(super) use places::Places;

/// Bytes that are compressed at a time, and such pieces in one turn of a worker: two milliseconds at the slowest level.
pub(super) const PIECE: usize = 16 * 1024;
pub(super) const PIECES_PER_TURN: u32 = 4;

/// What a piece costs of the 128 steps that a task may take in one turn. All streams of an HTTP/2 connection are one
/// task: they compress 256 KiB together, and then the other connections of the worker have their turn.
const PIECE_STEPS: u32 = 8;

/// What was configured for the answers of one route.
#[derive(Debug, Clone)]
pub(crate) struct Compress {
    /// The preferred one first.
    pub(crate) codings: Vec<Coding>,
    /// Of types in lower case.
    pub(crate) types: Vec<glob::Pattern>,
    pub(crate) min_size: u64,
    pub(crate) level: u32,
}

/// What becomes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is not for us to change.
    Untouched,
    /// It stays as it is, but what another client gets may differ.
    Plain,
    /// It is sent in this coding.
    In(Coding),
    /// It speaks of an answer that may have gone out in a coding.
    NotModified,
}

impl Compress {
    /// Changes the head of an answer that goes to its client compressed, and makes what its body goes through. The
    /// head is stripped; the length of an answer to HEAD still stands in it.
    pub(super) fn begin(
        &self,
        request: &Request,
        response: &mut Response,
        onward: &mut Onward,
        local: &Local,
    ) -> Option<Box<Encoder>> {
        let fate = self.fate(request, response, onward);
        if fate != Fate::Untouched {
            vary(&mut response.fields);
        }
        match fate {
            Fate::Untouched | Fate::Plain => None,
            Fate::NotModified => {
                renew_tag(&request.fields, &mut response.fields);
                None
            }
            Fate::In(coding) if request.method == Method::Head => {
                rewrite(&mut response.fields, coding);
                None
            }
            Fate::In(coding) => {
                let place = local.compressing.take()?;
                let encoder = Encoder::new(coding, self.level, place)?;
                rewrite(&mut response.fields, coding);
                onward.framing = Framing::Chunked;
                Some(Box::new(encoder))
            }
        }
    }

    fn fate(&self, request: &Request, response: &Response, onward: &Onward) -> Fate {
        let is_head = request.method == Method::Head;
        if response.status == 304 {
            return Fate::NotModified;
        }
        let length = match onward.framing {
            Framing::Length(length) => Some(length),
            Framing::None if is_head => said_length(&response.fields),
            Framing::None => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if !self.may_change(response) || length.is_some_and(|length| length < self.min_size.max(1))
        {
            return Fate::Untouched;
        }
        // A client of HTTP/1.0 could tell the end of the body by nothing but that of the connection; and one that
        // asks for a range counts bytes of the body as it is, though it may be answered with all of it.
        let is_simple = request.version == Version::Http10
            || request.fields.first(Known::Range).is_some()
            || says(&request.fields, Known::CacheControl, b"no-transform");
        if is_simple {
            return Fate::Plain;
        }
        let best = preferred(&request.fields, self.codings.iter().copied());
        best.and_then(|place| self.codings.get(place))
            .map_or(Fate::Plain, |coding| Fate::In(*coding))
    }

    /// Whether an answer is one that may be compressed, for whomever.
    fn may_change(&self, response: &Response) -> bool {
        let fields = &response.fields;
        let mut codings = fields.all(Known::ContentEncoding).flat_map(elements);
        let is_coded = codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        // Sums that come after the body would be those of another one.
        let is_summed = fields
            .all(Known::Trailer)
            .flat_map(elements)
            .any(|name| SUMS.iter().any(|sum| name.eq_ignore_ascii_case(sum)));
        matches!(response.status, 200..=203 | 207 | 208)
            && !is_coded
            && !is_summed
            && !says(fields, Known::CacheControl, b"no-transform")
            && fields.named(b"content-range").next().is_none()
            && fields.first(Known::ContentType).is_some_and(|kind| self.takes_type(kind))
    }

    fn takes_type(&self, kind: &[u8]) -> bool {
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let Ok(kind) = std::str::from_utf8(kind) else { return false };
        let kind = kind.to_ascii_lowercase();
        let how = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        self.types.iter().any(|pattern| pattern.matches_with(&kind, how))
    }
}

/// Whether one more piece may be compressed in this turn; if not, the task of `cx` is woken for its next.
pub(super) fn poll_turn(cx: &mut Context<'_>) -> Poll<()> {
    if coop::has_budget_remaining() {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Counts a piece that has been compressed.
pub(super) fn spend(cx: &mut Context<'_>) {
    for _ in 0..PIECE_STEPS {
        // Without any left, the next piece waits.
        if let Poll::Ready(step) = coop::poll_proceed(cx) {
            step.made_progress();
        }
    }
}

/// Sums over the very bytes of a body: of the compressed one they would be wrong.
const SUMS: [&[u8]; 4] = [b"content-md5", b"digest", b"content-digest", b"repr-digest"];

/// The length of the body that GET would have been answered with.
fn said_length(fields: &Fields) -> Option<u64> {
    std::str::from_utf8(fields.first(Known::ContentLength)?).ok()?.parse().ok()
}

fn says(fields: &Fields, known: Known, word: &[u8]) -> bool {
    fields.all(known).flat_map(elements).any(|element| element.eq_ignore_ascii_case(word))
}

/// Tells caches that the answer was chosen by what the client understands.
fn vary(fields: &mut Fields) {
    if !says(fields, Known::Vary, b"accept-encoding") && !says(fields, Known::Vary, b"*") {
        fields.push(b"Vary", b"Accept-Encoding");
    }
}

/// The head of an answer in a coding: its length is not known, parts of it cannot be asked for, and its mark is no
/// longer that of these very bytes (RFC 9110 8.8.1).
fn rewrite(fields: &mut Fields, coding: Coding) {
    fields.retain(|field| {
        let goes: [&[u8]; 5] = [b"accept-ranges", SUMS[0], SUMS[1], SUMS[2], SUMS[3]];
        !matches!(field.known, Known::ContentLength | Known::ContentEncoding)
            && !goes.iter().any(|name| field.name.eq_ignore_ascii_case(name))
    });
    if let Some(tag) = fields.first(Known::ETag).filter(|tag| !tag.starts_with(b"W/")) {
        let weak = weak(tag);
        fields.set(b"ETag", &weak);
    }
    fields.push(b"Content-Encoding", coding.name().as_bytes());
}

fn weak(tag: &[u8]) -> Vec<u8> {
    [b"W/", tag].concat()
}

/// A client that asks by the weak mark that it got from us is told of that one: a cache would not find its answer
/// by a strong one (RFC 9111 4.3.4).
fn renew_tag(asked: &Fields, fields: &mut Fields) {
    if let Some(tag) = fields.first(Known::ETag).filter(|tag| !tag.starts_with(b"W/")) {
        let weak = weak(tag);
        if says_exactly(asked, &weak) {
            fields.set(b"ETag", &weak);
        }
    }
}

fn says_exactly(asked: &Fields, tag: &[u8]) -> bool {
    asked.all(Known::IfNoneMatch).flat_map(elements).any(|element| element == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "Content-Type: text/css; charset=utf-8\r\nETag: \"t\"\r\nAccept-Ranges: bytes\r\n";

    fn rules() -> Compress {
        let types = ["text/*", "application/*+json"];
        Compress {
            codings: vec![Coding::Br, Coding::Gzip],
            types: types.map(|kind| glob::Pattern::new(kind).unwrap()).to_vec(),
            min_size: 100,
            level: 1,
        }
    }

    /// What becomes of an answer with these fields, and its fields afterwards.
    fn answered(line: &str, asked: &str, status: u16, said: &str, length: u64) -> (Fate, String) {
        let limits = evenkeel_wire::Limits { head_max: 9999, line_max: 999, fields_max: 99 };
        let (mut request, mut response) = (Request::default(), Response::default());
        let text = format!("{line}\r\nHost: a\r\n{asked}\r\n");
        request.read(text.as_bytes(), &limits).unwrap();
        let text = format!("HTTP/1.1 {status} x\r\n{said}Content-Length: {length}\r\n\r\n");
        response.read(text.as_bytes(), &request.method, &limits).unwrap();
        let is_head = request.method == Method::Head;
        crate::http::headers::strip_response(&mut response, is_head);
        let framing = response.framing;
        let mut onward = Onward { framing, version: request.version, persistent: true };
        let rules = rules();
        let fate = rules.fate(&request, &response, &onward);
        let local = Local::new(crate::http::FileShare::default(), 1, 1);
        let encoder = rules.begin(&request, &mut response, &mut onward, &local);
        assert_eq!(encoder.is_some(), matches!(fate, Fate::In(_)) && !is_head);
        assert_eq!(onward.framing == framing, encoder.is_none());
        let fields = response.fields.iter().map(|field| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}: {}", text(field.name), text(field.value))
        });
        (fate, fields.collect::<Vec<_>>().join("\n"))
    }

    fn fate(asked: &str, status: u16, said: &str, length: u64) -> Fate {
        let line = "GET / HTTP/1.1";
        answered(line, &format!("Accept-Encoding: br, gzip\r\n{asked}"), status, said, length).0
    }

    #[test]
    fn an_answer_that_is_not_ours_to_change_stays_as_it_is() {
        let br = Fate::In(Coding::Br);
        assert_eq!(fate("", 200, PLAIN, 100), br);
        assert_eq!(fate("", 200, PLAIN, 99), Fate::Untouched);
        for status in [204, 205, 206, 226, 301, 404, 500] {
            assert_eq!(fate("", status, PLAIN, 1000), Fate::Untouched, "{status}");
        }
        for said in [
            "Content-Encoding: gzip",
            "Content-Encoding: identity, zstd",
            "Content-Range: bytes 0-9/10",
            "Cache-Control: public, No-Transform",
            "Trailer: X, Content-Digest",
        ] {
            assert_eq!(
                fate("", 200, &format!("{PLAIN}{said}\r\n"), 1000),
                Fate::Untouched,
                "{said}"
            );
        }
        for said in ["Content-Encoding: identity", "Cache-Control: max-age=1", "Trailer: X"] {
            assert_eq!(fate("", 200, &format!("{PLAIN}{said}\r\n"), 1000), br, "{said}");
        }
        for (kind, expected) in [
            ("TEXT/html", &br),
            ("text/html ; charset=x", &br),
            ("application/ld+json", &br),
            ("application/json", &Fate::Untouched),
            ("text/a/b", &Fate::Untouched),
            ("image/png", &Fate::Untouched),
            ("", &Fate::Untouched),
        ] {
            assert_eq!(
                fate("", 200, &format!("Content-Type: {kind}\r\n"), 1000),
                *expected,
                "{kind}"
            );
        }
    }

    #[test]
    fn a_client_that_cannot_have_it_compressed_is_told_that_others_may() {
        for (line, asked) in [
            ("GET / HTTP/1.1", ""),
            ("GET / HTTP/1.1", "Accept-Encoding: zstd, br;q=0\r\n"),
            ("GET / HTTP/1.1", "Accept-Encoding: br\r\nRange: bytes=0-\r\n"),
            ("GET / HTTP/1.1", "Accept-Encoding: br\r\nCache-Control: no-transform\r\n"),
            ("GET / HTTP/1.0", "Accept-Encoding: br\r\n"),
        ] {
            let (fate, fields) = answered(line, asked, 200, PLAIN, 1000);
            assert_eq!(fate, Fate::Plain, "{line} {asked}");
            let all = format!("{}Vary: Accept-Encoding", PLAIN.replace("\r\n", "\n"));
            assert_eq!(fields, all, "{line} {asked}");
        }
        let (_, fields) = answered("GET / HTTP/1.1", "", 200, &format!("{PLAIN}Vary: *\r\n"), 1000);
        assert_eq!(fields.matches("Vary").count(), 1);
        let said = format!("{PLAIN}Vary: A, ACCEPT-encoding\r\n");
        let (_, fields) = answered("GET / HTTP/1.1", "", 200, &said, 1000);
        assert_eq!(fields.matches("Vary").count(), 1);
    }

    #[test]
    fn the_head_of_a_compressed_answer_says_nothing_that_is_no_longer_true() {
        let said =
            format!("{PLAIN}Content-Encoding: identity\r\nContent-MD5: x\r\nRepr-Digest: y\r\n");
        let (_, got) = answered("GET / HTTP/1.1", "Accept-Encoding: gzip\r\n", 200, &said, 1000);
        let expected = "Content-Type: text/css; charset=utf-8\nVary: Accept-Encoding\n\
                        ETag: W/\"t\"\nContent-Encoding: gzip";
        assert_eq!(got, expected);
        let (_, told) = answered("HEAD / HTTP/1.1", "Accept-Encoding: gzip\r\n", 200, &said, 1000);
        assert_eq!(told, expected, "HEAD is told the same");
        let (fate, _) = answered("HEAD / HTTP/1.1", "Accept-Encoding: gzip\r\n", 200, &said, 10);
        assert_eq!(fate, Fate::Untouched);
        let weak = PLAIN.replace("\"t\"", "W/\"t\"");
        let (_, got) = answered("GET / HTTP/1.1", "Accept-Encoding: gzip\r\n", 200, &weak, 1000);
        assert!(got.contains("ETag: W/\"t\""), "{got}");
    }

    #[test]
    fn a_client_that_has_the_weak_mark_is_told_of_the_weak_mark() {
        let said = "ETag: \"t\"\r\n";
        for (asked, tag) in
            [("W/\"t\"", "W/\"t\""), ("\"t\"", "\"t\""), ("\"a\", W/\"t\"", "W/\"t\"")]
        {
            let asked = format!("If-None-Match: {asked}\r\n");
            let (_, got) = answered("GET / HTTP/1.1", &asked, 304, said, 5);
            assert!(got.contains(&format!("ETag: {tag}")), "{got}");
            assert!(got.contains("Vary: Accept-Encoding"), "{got}");
        }
    }
}
