//! What of a file a request is to get: conditions in the order of RFC 9110 13.2.2, then the range.
//! It only computes. A date is a weaker mark than a tag and counts only where the standard lets it.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use evenkeel_wire::{Fields, Known, Method, elements};

use super::find::Opened;
use super::range::{self, Asked};

/// What of a file a request is to get.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Whole,
    /// At least one part, none of them empty.
    Parts(Vec<Range<u64>>),
    NotModified,
    PreconditionFailed,
    NotSatisfiable,
}

pub(super) fn choose(asked: &Fields, method: &Method, file: &Opened, now: SystemTime) -> Chosen {
    let etag = file.etag.as_bytes();
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
    let modified = httpdate::HttpDate::from(file.modified);
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
    // Ranges exist for GET only (RFC 9110 14.2).
    let range = asked.first(Known::Range).filter(|_| *method == Method::Get);
    match range.filter(|_| is_still_the_same(asked, file, now)) {
        Some(value) => match range::asked(value, file.length) {
            Asked::Whole => Chosen::Whole,
            Asked::Parts(parts) => Chosen::Parts(parts),
            Asked::Nothing => Chosen::NotSatisfiable,
        },
        None => Chosen::Whole,
    }
}

/// If-Range, by strong comparison (RFC 9110 13.1.5): a weak tag never holds, and a date only if it is exactly that
/// of the file and the file cannot have changed again within that second (8.8.2.2).
fn is_still_the_same(asked: &Fields, file: &Opened, now: SystemTime) -> bool {
    match asked.first(Known::IfRange) {
        None => true,
        Some(tag) if tag.starts_with(b"\"") => tag == file.etag.as_bytes(),
        Some(date) => {
            let age = now.duration_since(file.modified).unwrap_or_default();
            date == file.last_modified.as_bytes() && age > Duration::from_secs(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::files::find::{Found, look_up_whole};

    #[test]
    fn a_range_goes_with_the_file_it_was_begun_from_only() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a"), vec![0; 10_000]).unwrap();
        let folder = crate::http::files::Folder::new(place.path().into());
        let Ok(Found::File(page)) = look_up_whole(&folder, "a".as_ref(), None).found else {
            panic!("the file is there")
        };
        let file = &page.plain;
        let late = file.modified + Duration::from_secs(5);
        let chosen = |if_range: &str, now| {
            let mut asked = Fields::default();
            asked.push(b"Range", b"bytes=0-0");
            asked.push(b"If-Range", if_range.as_bytes());
            choose(&asked, &Method::Get, file, now)
        };
        let part = Chosen::Parts(vec![Range { start: 0, end: 1 }]);
        assert_eq!(chosen(&file.etag, late), part);
        assert_eq!(chosen(&format!("W/{}", file.etag), late), Chosen::Whole);
        assert_eq!(chosen("*", late), Chosen::Whole);
        assert_eq!(chosen(&file.last_modified, late), part);
        assert_eq!(chosen(&file.last_modified, file.modified), Chosen::Whole);
        assert_eq!(chosen("Sun, 06 Nov 1994 08:49:37 GMT", late), Chosen::Whole);
        let later = httpdate::fmt_http_date(late);
        assert_eq!(chosen(&later, late + Duration::from_secs(9)), Chosen::Whole);
        let mut asked = Fields::default();
        asked.push(b"Range", b"bytes=0-0");
        assert_eq!(choose(&asked, &Method::Head, file, late), Chosen::Whole);
    }
}
