//! Static files: what lies under a folder, as the kernel finds it there and nowhere else (openat2, RESOLVE_BENEATH).
//! No file is opened on a worker's loop, and none is read there that is not in memory already: disks and network
//! folders may be slow, and other connections of the worker must not notice.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_wire::{Fields, Framing, Known, Method, elements};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::ReadWriteFlags;
use tokio::time::Instant;

use super::Edits;
use super::headers::{Onward, connection_line, line, status_line};
use super::record::Told;
use super::reply::phrase;
use super::serve::{Next, Session};
use crate::observe::ended::Why;

/// Bytes read at a time away from the loop.
const COLD_READ: usize = 256 * 1024;

/// Pieces sent before other connections of the worker get their turn.
const PIECES_PER_TURN: u32 = 16;

/// What was configured for the files of one route.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) index: Vec<String>,
    pub(crate) hidden: bool,
}

/// What lies at a path.
enum Found {
    Regular(Regular),
    /// A folder, whose name was written without the slash that its links are counted from.
    WithoutSlash,
    Nothing,
    Forbidden,
}

struct Regular {
    file: Arc<File>,
    length: u64,
    modified: SystemTime,
    content_type: &'static str,
}

impl Session<'_> {
    /// Answers with a file; none when there is none, and somebody else may answer.
    pub(super) async fn send_file(
        &mut self,
        folder: &Folder,
        rest: &[u8],
        may_pass: bool,
        edits: &Edits,
    ) -> Option<(Next, Told)> {
        if !matches!(self.request.method, Method::Get | Method::Head) {
            return (!may_pass).then(|| self.refuse(405, Told::new(Why::BadRequest)));
        }
        let found = match relative(rest, folder.hidden) {
            Some(name) => {
                let folder = folder.clone();
                tokio::task::spawn_blocking(move || find(&folder, &name)).await.ok()?
            }
            None => Ok(Found::Nothing),
        };
        match found {
            Ok(Found::Regular(regular)) => Some(self.send_regular(regular, edits).await),
            Ok(Found::WithoutSlash) => Some(self.redirect_to_folder()),
            Ok(Found::Nothing) if may_pass => None,
            Ok(Found::Nothing) => Some(self.refuse(404, Told::new(Why::NoFile))),
            Ok(Found::Forbidden) => Some(self.refuse(403, Told::new(Why::NoFile))),
            Err(error) => {
                let told =
                    Told { detail: Some(error.to_string()), ..Told::new(Why::OutOfResources) };
                Some(self.refuse(503, told))
            }
        }
    }

    fn redirect_to_folder(&mut self) -> (Next, Told) {
        let target = String::from_utf8_lossy(&self.request.target).into_owned();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (target.as_str(), String::new()),
        };
        // Two slashes at the beginning would lead to another host.
        let to = format!("/{}/{query}", path.trim_start_matches('/'));
        self.redirect(301, to)
    }

    async fn send_regular(&mut self, regular: Regular, edits: &Edits) -> (Next, Told) {
        let set = self.filled(edits);
        let chosen = choose(&self.request.fields, &regular);
        let is_head = self.request.method == Method::Head;
        let persistent = self.request.framing == Framing::None && self.may_persist();
        let onward = Onward { framing: Framing::None, version: self.request.version, persistent };
        let (status, part) = match chosen {
            Chosen::Whole => (200, 0..regular.length),
            Chosen::Part(part) => (206, part),
            Chosen::NotModified => (304, 0..0),
            Chosen::PreconditionFailed => (412, 0..0),
            Chosen::NotSatisfiable => (416, 0..0),
        };
        let length = part.end - part.start;
        let body = if is_head { Framing::None } else { Framing::Length(length) };
        let local = self.local;
        self.stream.output.begin(local, body, |out| {
            status_line(out, status, phrase(status).as_bytes());
            out.extend_from_slice(b"Date: ");
            local.write_date(out);
            out.extend_from_slice(b"\r\n");
            write_fields(out, status, &regular, &part);
            set.iter().for_each(|(name, value)| line(out, name, value.as_bytes()));
            connection_line(out, onward);
            out.extend_from_slice(b"\r\n");
        });
        let mut told = Told { status: Some(status), ..Told::new(Why::Replied) };
        if !is_head && let Err(why) = self.send_part(&regular.file, part).await {
            told.why = why;
            return (Next::Abort(why), told);
        }
        told.down = if is_head { 0 } else { length };
        let next = match (persistent, self.request.framing == Framing::None) {
            (true, _) => Next::Request,
            (false, true) => Next::Close(Why::Replied),
            (false, false) => Next::Linger(Why::Replied),
        };
        (next, told)
    }

    /// Sends a part of a file: from memory if it is there, else read by a thread that may wait.
    async fn send_part(&mut self, file: &Arc<File>, part: std::ops::Range<u64>) -> Result<(), Why> {
        let mut at = part.start;
        let mut pieces = 0;
        while at < part.end {
            self.drained().await?;
            let most = usize::try_from(part.end - at).unwrap_or(usize::MAX);
            let count = match self.put_warm(file, at, most).await? {
                Some(count) => count,
                None => {
                    let (file, most) = (Arc::clone(file), most.min(COLD_READ));
                    let read = tokio::task::spawn_blocking(move || read_cold(&file, at, most));
                    let bytes = read.await.ok().and_then(Result::ok).ok_or(Why::InternalError)?;
                    self.put(&bytes).await?;
                    bytes.len()
                }
            };
            // Somebody made the file shorter; what was promised cannot be kept.
            if count == 0 {
                return Err(Why::InternalError);
            }
            at += count as u64;
            pieces += 1;
            if pieces % PIECES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Sends what is in memory at this place of a file; none if the disk would have to be asked.
    async fn put_warm(&mut self, file: &File, at: u64, most: usize) -> Result<Option<usize>, Why> {
        poll_fn(|cx| {
            let mut scratch = self.local.scratch.borrow_mut();
            let room = most.min(scratch.len());
            let mut pieces = [io::IoSliceMut::new(&mut scratch[..room])];
            match rustix::io::preadv2(file, &mut pieces, at, ReadWriteFlags::NOWAIT) {
                Ok(count) => {
                    let outcome =
                        self.stream.output.put(cx, &mut self.stream.socket, &scratch[..count]);
                    Poll::Ready(outcome.map(|()| Some(count)).map_err(|_| Why::ClientGone))
                }
                Err(_) => Poll::Ready(Ok(None)),
            }
        })
        .await
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), Why> {
        poll_fn(|cx| {
            let outcome = self.stream.output.put(cx, &mut self.stream.socket, bytes);
            Poll::Ready(outcome.map_err(|_| Why::ClientGone))
        })
        .await
    }

    /// Waits until the client has taken most of what was put.
    async fn drained(&mut self) -> Result<(), Why> {
        if !self.stream.output.is_full() {
            return Ok(());
        }
        let due = self.site.rules.idle_timeout.map(|idle| Instant::now() + idle);
        poll_fn(|cx| match self.stream.poll_flush(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|_| Why::ClientGone)),
            Poll::Pending if self.cut.is_asked(cx) => Poll::Ready(Err(Why::DrainCut)),
            Poll::Pending if self.alarm.is_over(cx, due) => Poll::Ready(Err(Why::IdleTimeout)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// The name below the root, decoded; none where nothing can be: a hidden part, or bytes that no name has.
fn relative(rest: &[u8], hidden: bool) -> Option<PathBuf> {
    let mut name = Vec::with_capacity(rest.len());
    let mut left = rest;
    while let [first, tail @ ..] = left {
        left = tail;
        let byte = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                left = after;
                let digit = |byte: &u8| (*byte as char).to_digit(16);
                (digit(high)? * 16 + digit(low)?) as u8
            }
            (byte, _) => *byte,
        };
        if byte == 0 {
            return None;
        }
        name.push(byte);
    }
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let name = &name[start..];
    let mut parts = name.split(|byte| *byte == b'/');
    if parts.any(|part| part == b".." || (part.starts_with(b".") && !hidden)) {
        return None;
    }
    use std::os::unix::ffi::OsStrExt;
    let name: &[u8] = if name.is_empty() { b"./" } else { name };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

/// Looks a name up beneath the root. May wait for a disk: never called on a worker's loop.
fn find(folder: &Folder, name: &Path) -> io::Result<Found> {
    // The root is opened each time, so that a folder that was replaced is the new one.
    let root =
        match open(&folder.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            Ok(root) => root,
            Err(error) => return absent(error),
        };
    let (file, status) = match beneath(&root, name) {
        Ok(opened) => opened,
        Err(error) => return absent(error),
    };
    match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::RegularFile => Ok(regular(file, &status, name)),
        rustix::fs::FileType::Directory if !ends_with_slash(name) => Ok(Found::WithoutSlash),
        rustix::fs::FileType::Directory => {
            for index in &folder.index {
                let name = name.join(index);
                if let Ok((file, status)) = beneath(&root, &name)
                    && rustix::fs::FileType::from_raw_mode(status.st_mode).is_file()
                {
                    return Ok(regular(file, &status, &name));
                }
            }
            Ok(Found::Nothing)
        }
        // Pipes, devices and sockets are no files to serve.
        _ => Ok(Found::Nothing),
    }
}

fn ends_with_slash(name: &Path) -> bool {
    name.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Opens without waiting for the other end of a pipe, and without leaving the root by any link.
fn beneath(root: &OwnedFd, name: &Path) -> rustix::io::Result<(OwnedFd, rustix::fs::Stat)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, name, flags, Mode::empty(), resolve)?;
    let status = fstat(&file)?;
    Ok((file, status))
}

fn absent(error: rustix::io::Errno) -> io::Result<Found> {
    match error {
        rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => Ok(Found::Forbidden),
        rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM => {
            Err(error.into())
        }
        _ => Ok(Found::Nothing),
    }
}

fn regular(file: OwnedFd, status: &rustix::fs::Stat, name: &Path) -> Found {
    let seconds = u64::try_from(status.st_mtime).unwrap_or(0);
    let modified =
        UNIX_EPOCH + Duration::new(seconds, u32::try_from(status.st_mtime_nsec).unwrap_or(0));
    let content_type = mime_guess::from_path(name).first_raw();
    Found::Regular(Regular {
        file: Arc::new(File::from(file)),
        length: u64::try_from(status.st_size).unwrap_or(0),
        modified,
        content_type: content_type.unwrap_or("application/octet-stream"),
    })
}

fn read_cold(file: &File, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let count = file.read_at(&mut bytes, at)?;
    bytes.truncate(count);
    Ok(bytes)
}

impl Regular {
    /// Changes with every change of the file that its time or length shows.
    fn etag(&self) -> String {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("\"{:x}-{:x}\"", since.as_nanos(), self.length)
    }
}

fn write_fields(out: &mut Vec<u8>, status: u16, regular: &Regular, part: &std::ops::Range<u64>) {
    line(out, b"ETag", regular.etag().as_bytes());
    line(out, b"Last-Modified", httpdate::fmt_http_date(regular.modified).as_bytes());
    if status == 304 {
        return;
    }
    line(out, b"Accept-Ranges", b"bytes");
    line(out, b"Content-Length", (part.end - part.start).to_string().as_bytes());
    match status {
        200 | 206 => line(out, b"Content-Type", regular.content_type.as_bytes()),
        416 => line(out, b"Content-Range", format!("bytes */{}", regular.length).as_bytes()),
        _ => {}
    }
    if status == 206 {
        let range = format!("bytes {}-{}/{}", part.start, part.end - 1, regular.length);
        line(out, b"Content-Range", range.as_bytes());
    }
}

/// What of a file a request is to get.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Whole,
    Part(std::ops::Range<u64>),
    NotModified,
    PreconditionFailed,
    NotSatisfiable,
}

/// Conditions in the order of RFC 9110 13.2.2, then the range.
fn choose(asked: &Fields, regular: &Regular) -> Chosen {
    let etag = regular.etag();
    let etag = etag.as_bytes();
    let named = |known, weakly: bool| {
        let mut tags = asked.all(known).flat_map(elements).peekable();
        tags.peek().is_some().then(|| {
            tags.any(|tag| {
                let tag = if weakly { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
                tag == b"*" || tag == etag
            })
        })
    };
    // Dates count in whole seconds.
    let modified = httpdate::HttpDate::from(regular.modified);
    let since = |known| {
        let text = std::str::from_utf8(asked.first(known)?).ok()?;
        Some(modified <= text.parse::<httpdate::HttpDate>().ok()?)
    };
    let unchanged = named(Known::IfMatch, false).or_else(|| since(Known::IfUnmodifiedSince));
    if unchanged == Some(false) {
        return Chosen::PreconditionFailed;
    }
    if named(Known::IfNoneMatch, true).or_else(|| since(Known::IfModifiedSince)) == Some(true) {
        return Chosen::NotModified;
    }
    let still_the_same = match asked.first(Known::IfRange) {
        None => true,
        Some(tag) if tag.starts_with(b"\"") => tag == etag,
        Some(date) => date == modified.to_string().as_bytes(),
    };
    match asked.first(Known::Range).filter(|_| still_the_same) {
        Some(range) => part(range, regular.length),
        None => Chosen::Whole,
    }
}

/// One range of bytes (RFC 9110 14.1.2). Several, or what is no range, are answered with the whole file.
fn part(range: &[u8], length: u64) -> Chosen {
    let text = std::str::from_utf8(range).unwrap_or_default();
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-'))
    else {
        return Chosen::Whole;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds mean: beyond every end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let part = match (first, last) {
        ("", suffix) if digits(suffix) => length.saturating_sub(number(suffix))..length,
        (first, "") if digits(first) => number(first)..length,
        (first, last) if digits(first) && digits(last) => {
            if number(last) < number(first) {
                return Chosen::Whole;
            }
            number(first)..number(last).saturating_add(1).min(length)
        }
        _ => return Chosen::Whole,
    };
    if part.start >= part.end { Chosen::NotSatisfiable } else { Chosen::Part(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_out_and_anything_odd_is_the_whole() {
        for (range, chosen) in [
            ("bytes=0-0", Chosen::Part(0..1)),
            ("bytes=2-", Chosen::Part(2..10)),
            ("bytes=-3", Chosen::Part(7..10)),
            ("bytes=-30", Chosen::Part(0..10)),
            ("bytes=5-99999999999999999999999", Chosen::Part(5..10)),
            ("bytes=10-", Chosen::NotSatisfiable),
            ("bytes=-0", Chosen::NotSatisfiable),
            ("bytes=99999999999999999999999-", Chosen::NotSatisfiable),
            ("bytes=5-2", Chosen::Whole),
            ("bytes=0-1,3-4", Chosen::Whole),
            ("bytes=--1", Chosen::Whole),
            ("bytes=a-b", Chosen::Whole),
            ("lines=0-1", Chosen::Whole),
        ] {
            assert_eq!(part(range.as_bytes(), 10), chosen, "{range}");
        }
    }

    #[test]
    fn names_are_decoded_once_and_hidden_ones_are_not_there() {
        let name =
            |rest: &str| relative(rest.as_bytes(), false).map(|name| name.display().to_string());
        assert_eq!(name("/a%20b/c").as_deref(), Some("a b/c"));
        assert_eq!(name("/%2561").as_deref(), Some("%61"));
        assert_eq!(name("///a").as_deref(), Some("a"));
        assert_eq!(name("/").as_deref(), Some("./"));
        for none in
            ["/.git/config", "/a/../b", "/a/%2e%2e/b", "/.", "/a%00b", "/a%zz", "/a/.htaccess"]
        {
            assert_eq!(name(none), None, "{none}");
        }
        assert!(relative(b"/.well-known/x", true).is_some());
    }
}
