//! Follows the proxy's access log: which backend a client was on, why its connection ended, when.
//! A log that has grown large is moved away and opened anew, so that a run of days fills no disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// A client may notice the end of its connection only when it next uses it.
const KEPT: Duration = Duration::from_secs(120);
const LARGE: u64 = 32 << 20;

/// Milliseconds since 1970, as precise as the access log.
pub type Millis = u64;

pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// One connection as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Line {
    pub client: SocketAddr,
    pub backend: Option<String>,
    pub why: String,
    pub detail: String,
    pub accepted: Millis,
    pub ended: Millis,
}

#[derive(Deserialize)]
struct Written {
    time: String,
    client: SocketAddr,
    backend: Option<String>,
    why: String,
    detail: Option<String>,
    total_ms: f64,
}

/// The log as far as it has been read.
pub struct AccessLog {
    path: PathBuf,
    file: File,
    read: u64,
    moved_away: bool,
    rest: Vec<u8>,
    lines: VecDeque<(Instant, Line)>,
    /// Lines read so far.
    pub total: u64,
}

impl AccessLog {
    pub fn open(path: &Path) -> Result<AccessLog, String> {
        let file = File::open(path).map_err(|error| format!("open the access log: {error}"))?;
        Ok(AccessLog {
            path: path.to_owned(),
            file,
            read: 0,
            moved_away: false,
            rest: Vec::new(),
            lines: VecDeque::new(),
            total: 0,
        })
    }

    /// Reads what has come. `reopen` has to make the proxy open its log anew.
    pub fn follow(&mut self, reopen: impl FnOnce()) -> Result<(), String> {
        // The proxy opens the new file before it writes on: once it is there, the old one is whole.
        let new = self.moved_away.then(|| File::open(&self.path).ok()).flatten();
        self.take_in()?;
        if let Some(new) = new {
            let _ = fs::remove_file(self.old_path());
            (self.file, self.read, self.moved_away) = (new, 0, false);
            self.take_in()?;
        }
        if self.read > LARGE && !self.moved_away {
            fs::rename(&self.path, self.old_path())
                .map_err(|error| format!("move the access log away: {error}"))?;
            self.moved_away = true;
            reopen();
        }
        while self.lines.front().is_some_and(|(read_at, _)| read_at.elapsed() > KEPT) {
            self.lines.pop_front();
        }
        Ok(())
    }

    /// The connection of this client that was accepted in this time.
    pub fn find(&self, client: SocketAddr, from: Millis, to: Millis) -> Option<&Line> {
        let mut newest_first = self.lines.iter().rev().map(|(_, line)| line);
        newest_first.find(|line| line.client == client && (from..=to).contains(&line.accepted))
    }

    fn old_path(&self) -> PathBuf {
        self.path.with_extension("old")
    }

    fn take_in(&mut self) -> Result<(), String> {
        let read = self.file.read_to_end(&mut self.rest);
        self.read += read.map_err(|error| format!("read the access log: {error}"))? as u64;
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        let begun = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, begun);
        let read_at = Instant::now();
        for text in whole.split(|&byte| byte == b'\n').filter(|text| !text.is_empty()) {
            let line = parse(text).ok_or_else(|| {
                format!("not a line of the access log: {}", String::from_utf8_lossy(text))
            })?;
            self.total += 1;
            self.lines.push_back((read_at, line));
        }
        Ok(())
    }
}

fn parse(text: &[u8]) -> Option<Line> {
    let written: Written = serde_json::from_slice(text).ok()?;
    let accepted = millis(&written.time)?;
    Some(Line {
        client: written.client,
        backend: written.backend,
        why: written.why,
        detail: written.detail.unwrap_or_default(),
        accepted,
        ended: accepted + written.total_ms.ceil() as Millis,
    })
}

/// `2026-03-01T09:30:12.345Z` as milliseconds since 1970.
fn millis(text: &str) -> Option<Millis> {
    let fields: Option<Vec<u64>> = text
        .trim_end_matches('Z')
        .split(['-', 'T', ':', '.'])
        .map(|field| field.parse().ok())
        .collect();
    let &[year, month, day, hour, minute, second, millis] = fields?.as_slice() else { return None };
    // Years that begin in March have their leap day last; 719,468 days lie before 1970.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_log_are_read_as_written() {
        assert_eq!(millis("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(millis("2000-02-29T12:00:00.001Z"), Some(951_825_600_001));
        assert_eq!(millis("2026-03-01T09:30:12.345Z"), Some(1_772_357_412_345));
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn a_line_says_backend_reason_and_end() {
        let text = br#"{"backend":"127.0.1.1:9","bytes_down":0,"bytes_up":0,"client":"127.0.2.3:5",
            "detail":null,"time":"1970-01-01T00:00:01.000Z","total_ms":0.198,"tried":1,
            "why":"backend-reset"}"#;
        let line = parse(text).unwrap();
        assert_eq!((line.accepted, line.ended), (1000, 1001));
        assert_eq!(line.backend.as_deref(), Some("127.0.1.1:9"));
        assert_eq!(line.why, "backend-reset");
    }
}
