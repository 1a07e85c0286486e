//! Answers about files: their heads, the parts of a body that has several, and what the connection does afterwards.
//! What a route changes in answers is changed here too, but never where a message ends.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use evenkeel_wire::{Fields, Framing, Known, Method};

use super::Folder;
use super::choose::{Chosen, choose};
use super::find::{Opened, Page};
use super::listing::Listing;
use crate::config::Coding;
use crate::http::Edits;
use crate::http::coding;
use crate::http::headers::Onward;
use crate::http::record::Told;
use crate::http::reply::{begin, wants_json};
use crate::http::session::{Next, Session};
use crate::observe::ended::Why;

/// Bytes of a page of our own put at a time.
const PUT: usize = 16 * 1024;

/// Where the parts of a body come from.
struct Source<'f> {
    file: &'f Opened,
    patience: Duration,
}

/// The pieces of a body in their order: our own words, and parts of a file.
enum Piece {
    Words(Vec<u8>),
    Part(Range<u64>),
}

impl Session<'_> {
    /// Answers with a file, or with what its conditions say.
    pub(super) async fn send_page(
        &mut self,
        folder: &Folder,
        page: &Page,
        edits: &Edits,
    ) -> (Next, Told) {
        let (file, coding) = best(page, &self.request.fields);
        let chosen = choose(&self.request.fields, &self.request.method, file, SystemTime::now());
        let status = match chosen {
            Chosen::Whole => 200,
            Chosen::Parts(_) => 206,
            Chosen::NotModified => 304,
            Chosen::PreconditionFailed => 412,
            Chosen::NotSatisfiable => 416,
        };
        self.begin_fields(status);
        let fields = &mut self.response.fields;
        fields.push(b"ETag", file.etag.as_bytes());
        fields.push(b"Last-Modified", file.last_modified.as_bytes());
        if let Some(value) = &page.cache_control {
            fields.push(b"Cache-Control", value.as_bytes());
        }
        if !folder.precompressed.is_empty() {
            fields.push(b"Vary", b"Accept-Encoding");
        }
        let mut content_type = page.content_type.to_owned();
        let mut pieces = Vec::new();
        match chosen {
            Chosen::Whole if file.length > 0 => pieces.push(Piece::Part(0..file.length)),
            Chosen::Parts(parts) if parts.len() == 1 => {
                let part = parts[0].clone();
                fields.push(b"Content-Range", content_range(&part, file.length).as_bytes());
                pieces.push(Piece::Part(part));
            }
            Chosen::Parts(parts) => {
                let boundary = self.local.request_id();
                pieces = multipart(parts, file.length, page.content_type, &boundary);
                content_type = format!("multipart/byteranges; boundary={boundary}");
            }
            Chosen::NotSatisfiable => {
                fields.push(b"Content-Range", format!("bytes */{}", file.length).as_bytes());
            }
            _ => {}
        }
        if status != 304 {
            fields.push(b"Accept-Ranges", b"bytes");
        }
        if matches!(status, 200 | 206) {
            fields.push(b"Content-Type", content_type.as_bytes());
            if let Some(coding) = coding {
                fields.push(b"Content-Encoding", coding.name().as_bytes());
            }
        }
        let source = Source { file, patience: folder.patience };
        self.send_pieces(pieces, Some(source), edits).await
    }

    /// Answers with what is in a folder, as a page or as JSON.
    pub(super) async fn send_listing(&mut self, listing: &Listing, edits: &Edits) -> (Next, Told) {
        let end = self.request.target.iter().position(|byte| *byte == b'?');
        let path = &self.request.target[..end.unwrap_or(self.request.target.len())];
        let (content_type, body) = if wants_json(&self.request.fields) {
            ("application/json", listing.json(path))
        } else {
            ("text/html; charset=utf-8", listing.page(path))
        };
        self.begin_fields(200);
        for (name, value) in [
            ("Content-Type", content_type),
            ("Cache-Control", "no-cache"),
            ("Vary", "Accept"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
        ] {
            self.response.fields.push(name.as_bytes(), value.as_bytes());
        }
        self.send_pieces(vec![Piece::Words(body.into_bytes())], None, edits).await
    }

    fn begin_fields(&mut self, status: u16) {
        begin(&mut self.response, status, self.local);
    }

    /// Writes the head that has been put together, and the body made of `pieces`.
    async fn send_pieces(
        &mut self,
        pieces: Vec<Piece>,
        source: Option<Source<'_>>,
        edits: &Edits,
    ) -> (Next, Told) {
        let changes = self.changes(edits);
        if !changes.is_empty() {
            let vary = self.response.fields.first(Known::Vary).map(<[u8]>::to_vec);
            changes.apply(&mut self.response.fields);
            // Whatever a route says, a cache must know what the answer was chosen by.
            if let Some(vary) = vary {
                let said = self.response.fields.all(Known::Vary).any(|value| value == vary);
                if !said {
                    self.response.fields.push(b"Vary", &vary);
                }
            }
        }
        let status = self.response.status;
        let length: u64 = pieces.iter().map(Piece::length).sum();
        let is_head = self.request.method == Method::Head;
        let persistent = self.request.framing == Framing::None && self.may_persist();
        if is_head && status != 304 {
            self.response.fields.push(b"Content-Length", length.to_string().as_bytes());
        }
        let has_body = status != 304 && !is_head;
        let framing = if has_body { Framing::Length(length) } else { Framing::None };
        let mut onward = Onward { framing, version: self.request.version, persistent };
        self.encoder = self.compress.and_then(|rules| {
            rules.begin(&self.request, &mut self.response, &mut onward, self.local)
        });
        self.stream.answer(self.local, &self.response, onward);
        let mut told = Told { status: Some(status), ..Told::new(Why::Replied) };
        let before = self.stream.sent();
        let sent = if is_head { Ok(()) } else { self.send_body(pieces, source).await };
        self.encoder = None;
        if let Err(why) = sent {
            told.why = why;
            told.down = self.stream.sent() - before;
            return (Next::Abort(why), told);
        }
        self.stream.finish(None);
        told.down = self.stream.sent() - before;
        let next = match (persistent, self.request.framing == Framing::None) {
            (true, _) => Next::Request,
            (false, true) => Next::Close(Why::Replied),
            (false, false) => Next::Linger(Why::Replied),
        };
        (next, told)
    }

    async fn send_body(
        &mut self,
        pieces: Vec<Piece>,
        source: Option<Source<'_>>,
    ) -> Result<(), Why> {
        for piece in pieces {
            match (piece, &source) {
                (Piece::Words(words), _) => {
                    for chunk in words.chunks(PUT) {
                        self.drained().await?;
                        self.put(chunk).await?;
                    }
                }
                (Piece::Part(part), Some(source)) => match &source.file.ahead {
                    Some(bytes) => {
                        let start = usize::try_from(part.start).unwrap_or(usize::MAX);
                        let end = usize::try_from(part.end).unwrap_or(usize::MAX);
                        // It may have become shorter between its status and its bytes.
                        let bytes = bytes.get(start..end).ok_or(Why::FileBroken)?;
                        self.put(bytes).await?;
                    }
                    None => self.send_part(source.file, part, source.patience).await?,
                },
                (Piece::Part(_), None) => return Err(Why::InternalError),
            }
        }
        self.finish_coded().await
    }
}

/// The form of a page that suits a client best, and its coding if it has one.
fn best<'p>(page: &'p Page, asked: &Fields) -> (&'p Opened, Option<Coding>) {
    let plain = (&page.plain, None);
    // A range counts bytes of the file as it is, whoever else has understood it otherwise.
    if page.siblings.is_empty() || asked.first(Known::Range).is_some() {
        return plain;
    }
    let offered = page.siblings.iter().map(|(coding, _)| *coding);
    let sibling = coding::preferred(asked, offered).and_then(|place| page.siblings.get(place));
    sibling.map_or(plain, |(coding, sibling)| (sibling, Some(*coding)))
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Piece::Words(words) => words.len() as u64,
            Piece::Part(part) => part.end - part.start,
        }
    }
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// The body of an answer with several parts (RFC 9110 14.6).
fn multipart(
    parts: Vec<Range<u64>>,
    length: u64,
    content_type: &str,
    boundary: &str,
) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let mut before = "";
    for part in parts {
        let range = content_range(&part, length);
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n"
        );
        pieces.push(Piece::Words(head.into_bytes()));
        pieces.push(Piece::Part(part));
        before = "\r\n";
    }
    pieces.push(Piece::Words(format!("\r\n--{boundary}--\r\n").into_bytes()));
    pieces
}
