//! The page for people, as it is in the binary: a few files without a secret in them, which anybody may have who can reach us. What the
//! page shows, it asks for like everybody else. It may load nothing from elsewhere, and nobody may show it within another page.

use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, REFERRER_POLICY};
use http::{Method, StatusCode};

use super::answer::Answer;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file by its name, with its type.
const FILES: &[(&str, &str, &[u8])] = &[
    ("", "text/html; charset=utf-8", include_bytes!("dashboard/index.html")),
    ("app.js", SCRIPT, include_bytes!("dashboard/app.js")),
    ("attention.js", SCRIPT, include_bytes!("dashboard/attention.js")),
    ("backends.js", SCRIPT, include_bytes!("dashboard/backends.js")),
    ("charts.js", SCRIPT, include_bytes!("dashboard/charts.js")),
    ("elements.js", SCRIPT, include_bytes!("dashboard/elements.js")),
    ("format.js", SCRIPT, include_bytes!("dashboard/format.js")),
    ("history.js", SCRIPT, include_bytes!("dashboard/history.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("dashboard/icon.svg")),
    ("latency.js", SCRIPT, include_bytes!("dashboard/latency.js")),
    ("lists.js", SCRIPT, include_bytes!("dashboard/lists.js")),
    ("orders.js", SCRIPT, include_bytes!("dashboard/orders.js")),
    ("picture.js", SCRIPT, include_bytes!("dashboard/picture.js")),
    ("reasons.js", SCRIPT, include_bytes!("dashboard/reasons.js")),
    ("stream.js", SCRIPT, include_bytes!("dashboard/stream.js")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("dashboard/style.css")),
];

/// Where the page is.
const FOLDER: &str = "/dashboard/";

/// The file at a path; none if that is none of the page's. The page is at `/` too.
pub(super) fn find(method: &Method, path: &str) -> Option<Answer> {
    if path == FOLDER.trim_end_matches('/') {
        let there = HeaderValue::from_static(FOLDER);
        let answer = Answer::text(StatusCode::PERMANENT_REDIRECT, "it is at /dashboard/\n");
        return Some(answer.with(LOCATION, there));
    }
    let name = path.strip_prefix(FOLDER).or_else(|| path.strip_prefix('/'))?;
    let (_, content_type, bytes) = FILES.iter().find(|(known, ..)| *known == name)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(Answer::only_get());
    }
    let answer = Answer::of(content_type, *bytes);
    let answer = answer.with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Some(answer.with(REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/dashboard");
        let mut all = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = if name == "index.html" { "" } else { &name };
            assert!(FILES.iter().any(|(known, ..)| *known == name), "{name} is not served");
            all += 1;
        }
        assert_eq!(FILES.len(), all);
        for path in ["/v1/status", "/index.html", "/dashboard/../app.js", "//app.js"] {
            assert!(find(&Method::GET, path).is_none(), "{path}");
        }
    }
}
