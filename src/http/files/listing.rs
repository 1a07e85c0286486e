//! What is in a folder, as a page for people or as JSON for programs: names, sizes, dates, folders first.
//! Nothing on the page comes from elsewhere, every name is escaped, and hidden names stay hidden.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::find::LAST_SECOND;

/// Entries that are shown; of a bigger folder only so many are even looked at, and the page says so.
const ENTRIES_MAX: usize = 4096;

/// The entries of a folder.
#[derive(Debug)]
pub(super) struct Listing {
    entries: Vec<Entry>,
    is_cut: bool,
}

#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    is_folder: bool,
    length: u64,
    modified: String,
}

impl Listing {
    /// Reads a folder, waiting for the disk; `follow` says what a link leads to, if that may be served.
    pub(super) fn read(
        folder: OwnedFd,
        hidden: bool,
        follow: impl Fn(&[u8]) -> Option<Stat>,
    ) -> Result<Listing, Errno> {
        let mut entries = Vec::new();
        let mut is_cut = false;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || (name.starts_with(b".") && !hidden) {
                continue;
            }
            if entries.len() >= ENTRIES_MAX {
                is_cut = true;
                break;
            }
            let Ok(status) = statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let is_link = FileType::from_raw_mode(status.st_mode).is_symlink();
            let status = if is_link { follow(name) } else { Some(status) };
            entries.extend(status.and_then(|status| Entry::of(name, &status)));
        }
        entries.sort_by(|a, b| b.is_folder.cmp(&a.is_folder).then_with(|| a.name.cmp(&b.name)));
        Ok(Listing { entries, is_cut })
    }

    /// The page of the folder that lies at `path`, written as in the request.
    pub(super) fn page(&self, path: &[u8]) -> String {
        let title = escaped(&String::from_utf8_lossy(path));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>body{{font:1rem/1.5 sans-serif;margin:2rem}}td,th{{padding-right:2rem;text-align:left}}\
             td:nth-child(2){{text-align:right}}</style>\n<h1>{title}</h1>\n<table>\n\
             <tr><th>Name<th>Size<th>Last change\n"
        );
        if path != b"/" {
            page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
        }
        for entry in &self.entries {
            let (link, name) = (entry.link(), escaped(&entry.shown()));
            let size = if entry.is_folder { String::new() } else { entry.length.to_string() };
            let _ = writeln!(
                page,
                "<tr><td><a href=\"{link}\">{name}</a><td>{size}<td>{}",
                entry.modified
            );
        }
        page.push_str("</table>\n");
        if self.is_cut {
            let _ = writeln!(page, "<p>There is more here: only {ENTRIES_MAX} entries are shown.");
        }
        page
    }

    /// The same as JSON.
    pub(super) fn json(&self, path: &[u8]) -> String {
        let entries: Vec<Value> = self
            .entries
            .iter()
            .map(|entry| {
                json!({
                    "name": String::from_utf8_lossy(&entry.name),
                    "link": entry.link(),
                    "kind": if entry.is_folder { "folder" } else { "file" },
                    "size": if entry.is_folder { None } else { Some(entry.length) },
                    "modified": entry.modified,
                })
            })
            .collect();
        let path = String::from_utf8_lossy(path);
        let listing = json!({ "path": path, "entries": entries, "cut": self.is_cut });
        format!("{listing}\n")
    }
}

impl Entry {
    /// Only what can be asked for: pipes, devices and sockets are no files.
    fn of(name: &[u8], status: &Stat) -> Option<Entry> {
        let kind = FileType::from_raw_mode(status.st_mode);
        if !kind.is_dir() && !kind.is_file() {
            return None;
        }
        let modified = u64::try_from(status.st_mtime).unwrap_or(0).min(LAST_SECOND);
        let modified = UNIX_EPOCH + Duration::from_secs(modified);
        Some(Entry {
            name: name.to_owned(),
            is_folder: kind.is_dir(),
            length: u64::try_from(status.st_size).unwrap_or(0),
            modified: httpdate::fmt_http_date(modified),
        })
    }

    fn shown(&self) -> String {
        let slash = if self.is_folder { "/" } else { "" };
        format!("{}{slash}", String::from_utf8_lossy(&self.name))
    }

    /// The name as it stands in a URL; everything is written with `%` that could mean anything there.
    fn link(&self) -> String {
        let mut link = String::with_capacity(self.name.len() + 3);
        for byte in &self.name {
            // RFC 3986 2.3.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                link.push(char::from(*byte));
            } else {
                let _ = write!(link, "%{byte:02X}");
            }
        }
        if self.is_folder {
            link.push('/');
        }
        link
    }
}

/// Text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A name may hold line ends and directions of writing, which would make a page lie.
            letter if letter.is_control() || is_direction(letter) => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        let modified = httpdate::fmt_http_date(UNIX_EPOCH);
        Entry { name: name.into(), is_folder: false, length: 1, modified }
    }

    #[test]
    fn no_name_can_become_markup_or_lead_elsewhere() {
        let names =
            ["<script>", "\"onload=", "javascript:alert(1)", "a b?#%/", "..\\x", "\u{202e}"];
        let entries = names.map(entry).into();
        let listing = Listing { entries, is_cut: true };
        let page = listing.page(b"/<b>/");
        assert!(page.contains("&lt;script&gt;") && page.contains("/&lt;b&gt;/"), "{page}");
        assert!(page.contains("href=\"%3Cscript%3E\""), "{page}");
        assert!(page.contains("href=\"javascript%3Aalert%281%29\""), "{page}");
        assert!(page.contains("href=\"a%20b%3F%23%25%2F\""), "{page}");
        assert!(!page.contains("<script") && !page.contains("\"onload") && !page.contains("<b>"));
        assert!(!page.contains('\u{202e}') && page.contains("only 4096 entries"));
        let value: Value = serde_json::from_str(&listing.json(b"/")).unwrap();
        assert_eq!((&value["cut"], &value["entries"][0]["kind"]), (&json!(true), &json!("file")));
    }
}
