//! Which page answers a failure: one of the route, one of the listener, or our own. Programs that ask for JSON get it.
//! A page must never say more than our own would, so there is nothing to fill in beyond status, cause and request id.

use std::borrow::Cow;

use evenkeel_wire::Fields;

use super::grpc;
use super::reply::{Reply, wants_json};
use crate::config::{Page, PageKind, PageVariable, Part};

/// Pages by the statuses they are for; an exact status stands before its hundred.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    list: Vec<(u16, u16, Page)>,
}

impl Pages {
    /// Pages for statuses from one to another, both included.
    pub(crate) fn new(list: impl IntoIterator<Item = (u16, u16, Page)>) -> Pages {
        let mut list: Vec<_> = list.into_iter().collect();
        list.sort_by_key(|(from, to, _)| to - from);
        Pages { list }
    }

    fn of(&self, status: u16) -> Option<&Page> {
        let found = self.list.iter().find(|(from, to, _)| (*from..=*to).contains(&status));
        found.map(|(_, _, page)| page)
    }
}

/// The answer to a request that failed, from the first of these that has a page for it.
pub(super) fn failure<'p>(
    pages: impl IntoIterator<Item = &'p Pages>,
    status: u16,
    cause: &str,
    request_id: &str,
    asked: &Fields,
) -> Reply {
    let mut reply = Reply::failure(status, cause, request_id, asked);
    let page = pages.into_iter().find_map(|pages| pages.of(status));
    if let Some(page) = page.filter(|page| page.kind == PageKind::Json || !wants_json(asked)) {
        reply.content_type = match page.kind {
            PageKind::Html => "text/html; charset=utf-8",
            PageKind::Json => "application/json",
            PageKind::Text => "text/plain; charset=utf-8",
            PageKind::Xml => "application/xml",
        };
        reply.body = filled(page, status, cause, request_id).into_bytes();
    }
    if grpc::is_call(asked) {
        grpc::answer(&mut reply, cause);
    }
    reply
}

fn filled(page: &Page, status: u16, cause: &str, request_id: &str) -> String {
    let mut text = String::new();
    for part in &page.template.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Variable(PageVariable::Status) => text.push_str(&status.to_string()),
            Part::Variable(PageVariable::Cause) => text.push_str(&escaped(page.kind, cause)),
            Part::Variable(PageVariable::RequestId) => {
                text.push_str(&escaped(page.kind, request_id));
            }
        }
    }
    text
}

/// Causes and ids are plain words today; a page must hold whatever they become.
fn escaped(kind: PageKind, value: &str) -> Cow<'_, str> {
    match kind {
        PageKind::Text => value.into(),
        PageKind::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned().into()
        }
        PageKind::Html | PageKind::Xml => {
            let mut text = String::new();
            for character in value.chars() {
                match character {
                    '&' => text.push_str("&amp;"),
                    '<' => text.push_str("&lt;"),
                    '>' => text.push_str("&gt;"),
                    '"' => text.push_str("&quot;"),
                    '\'' => text.push_str("&#39;"),
                    _ => text.push(character),
                }
            }
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Template;

    fn page(kind: PageKind) -> Page {
        let parts = [PageVariable::Status, PageVariable::Cause, PageVariable::RequestId];
        Page { kind, template: Template { parts: parts.map(Part::Variable).to_vec() } }
    }

    #[test]
    fn what_is_filled_in_never_becomes_markup() {
        let text = |kind| filled(&page(kind), 400, "<b a='\"'>&", "\"\\\n");
        assert_eq!(text(PageKind::Html), "400&lt;b a=&#39;&quot;&#39;&gt;&amp;&quot;\\\n");
        assert_eq!(text(PageKind::Json), "400<b a='\\\"'>&\\\"\\\\\\n");
    }

    #[test]
    fn the_nearest_page_answers() {
        let (html, text) = (page(PageKind::Html), page(PageKind::Text));
        let route = Pages::new([(500, 599, text.clone()), (502, 502, html.clone())]);
        let listener = Pages::new([(400, 499, text), (503, 503, html)]);
        let kind = |status| {
            let asked = Fields::default();
            failure([&route, &listener], status, "cause", "id", &asked).content_type
        };
        assert!(kind(502).starts_with("text/html") && kind(503).starts_with("text/plain"));
        assert!(kind(404).starts_with("text/plain") && kind(408).starts_with("text/plain"));
    }
}
