//! A page of a person's own for what goes wrong: a file, read whole when a config is verified and again when it is
//! compiled, so that no error is ever answered by looking for a file. It is taken apart at its variables once.

use std::io::Read as _;
use std::path::Path;

use super::choice::choice;
use super::template::{Template, read_among_braces};
use crate::config::problem::{Misread, shown};
use crate::keeper;

choice! {
    /// Something that a page can say of an error.
    pub enum PageVariable ("a variable of a page") {
        /// The status.
        Status = "status",
        /// The cause, as in `X-Evenkeel-Cause`.
        Cause = "cause",
        /// The id of the request, as in `X-Request-Id`.
        RequestId = "request.id",
    }
}

/// What a page is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// A page for people.
    Html,
    /// An answer for programs.
    Json,
    /// Plain text.
    Text,
    /// XML.
    Xml,
}

/// A page, read and taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What it is written in.
    pub kind: PageKind,
    /// Its text.
    pub template: Template<PageVariable>,
}

/// The largest page. One is held in memory for each that is configured, and sent with every failure.
const PAGE_BYTES_MAX: u64 = 64 * 1024;

impl Page {
    /// Reads a page, or says why it cannot be one.
    pub fn read(path: &Path) -> Result<Page, Misread> {
        let name = path.display().to_string();
        let name = shown(&name);
        let kind = kind(path).ok_or_else(|| {
            Misread::new(format!("the ending of {name} does not say what the page is written in"))
                .advise("name it .html, .json, .txt or .xml")
        })?;
        let failed = |error: std::io::Error| {
            Misread::new(format!("read page {name}: {error}"))
                .advise("name a file that the user who runs Evenkeel may read")
        };
        let file = keeper::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Misread::new(format!("{name} is no file")).advise("name a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(PAGE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > PAGE_BYTES_MAX {
            return Err(Misread::new(format!("page {name} is larger than 64KiB"))
                .advise("leave pictures out of it, or link to them"));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Misread::new(format!("page {name} is not UTF-8")).advise("save it as UTF-8")
        })?;
        Ok(Page { kind, template: read_among_braces(&text) })
    }
}

/// The statuses that a key of `errors` is for, from one to another: `404`, or `5xx` for all of a hundred.
pub fn error_statuses(key: &str) -> Option<(u16, u16)> {
    match key {
        "4xx" => Some((400, 499)),
        "5xx" => Some((500, 599)),
        _ => {
            let is_number = key.len() == 3 && key.bytes().all(|byte| byte.is_ascii_digit());
            let status = key.parse().ok().filter(|status| (400..600).contains(status));
            status.filter(|_| is_number).map(|status| (status, status))
        }
    }
}

fn kind(path: &Path) -> Option<PageKind> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "html" | "htm" => Some(PageKind::Html),
        "json" => Some(PageKind::Json),
        "txt" => Some(PageKind::Text),
        "xml" => Some(PageKind::Xml),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_page_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let said = |path: &Path| Page::read(path).unwrap_err().message;
        assert!(said(&folder.path().join("none.html")).contains("No such file"));
        assert!(said(&file("page", b"")).contains("does not say"));
        assert!(said(&file("latin.html", b"caf\xe9")).contains("not UTF-8"));
        assert!(said(&file("large.html", &[b'a'; 65_537])).contains("larger than 64KiB"));
        std::fs::create_dir(folder.path().join("folder.html")).unwrap();
        assert!(said(&folder.path().join("folder.html")).contains("is no file"));
        assert_eq!(Page::read(&file("fine.JSON", &[b'a'; 65_536])).unwrap().kind, PageKind::Json);
    }
}
