//! What a route changes in the line of a request on its way to a backend: the path, and whose host is asked for.
//! The request itself stays as the client sent it, so that logs and other variables tell what was asked; what goes out
//! is in its normal form again, and never begins with two slashes, which could be read as a host.

use evenkeel_wire::Request;

use super::session::path_end;
use crate::config::{HostHeader, Part, Placeholder, Template, Variable};
use crate::route::{UnclearPath, normal_path};
use crate::upstream::Backend;

/// What was configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewrite {
    pub(crate) path: Option<PathChange>,
    pub(crate) host: Option<HostHeader>,
}

/// Another path than the client's.
#[derive(Debug, Clone)]
pub(crate) enum PathChange {
    /// Without this at its beginning, as far as it ends with a segment.
    Strip(Box<[u8]>),
    /// This one.
    Replace(Template),
}

impl Rewrite {
    /// Path and query as the backend is asked for them; none where they stay as they are. `rest` is what stands under
    /// the `*` of the route.
    pub(super) fn target(
        &self,
        target: &[u8],
        rest: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Result<Option<Vec<u8>>, UnclearPath> {
        // `*` and the target of a CONNECT are no paths.
        let Some(change) = self.path.as_ref().filter(|_| target.starts_with(b"/")) else {
            return Ok(None);
        };
        let (path, query) = target.split_at(path_end(target));
        let path = match change {
            PathChange::Strip(prefix) => match path.strip_prefix(&**prefix) {
                Some(left) if left.is_empty() || left.starts_with(b"/") => left.to_vec(),
                _ => return Ok(None),
            },
            PathChange::Replace(template) => filled(template, path, &rest(path)),
        };
        let begin = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        let path = [b"/", &path[begin..]].concat();
        Ok(Some([&normal_path(&path)?, query].concat()))
    }

    /// The `Host` that a backend is asked for.
    pub(super) fn host<'h>(&'h self, request: &'h Request, backend: &'h Backend) -> &'h [u8] {
        match &self.host {
            // The target of a CONNECT is its authority, and Host says the same.
            Some(_) if request.target.is_empty() => &request.authority,
            Some(HostHeader::Backend) => backend.authority.as_bytes(),
            Some(HostHeader::Fixed(host)) => host.as_bytes(),
            None => &request.authority,
        }
    }
}

impl Rewrite {
    /// The `Host` for a backend of any upstream; none where each is asked for its own.
    pub(super) fn same_host<'h>(&'h self, request: &'h Request) -> Option<&'h [u8]> {
        match &self.host {
            Some(HostHeader::Backend) => None,
            Some(HostHeader::Fixed(host)) => Some(host.as_bytes()),
            None => Some(&request.authority),
        }
    }
}

fn filled(template: &Template, path: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for part in &template.parts {
        let piece = match part {
            Part::Text(plain) => plain.as_bytes(),
            Part::Variable(Placeholder::Variable(Variable::Path)) => path,
            Part::Variable(Placeholder::Variable(Variable::Rest)) => rest,
            Part::Variable(_) => b"",
        };
        // "/new/{rest}" means the same as "/new{rest}".
        let joins = text.ends_with(b"/") && piece.starts_with(b"/");
        text.extend_from_slice(piece.get(usize::from(joins)..).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: PathChange, target: &str) -> Result<Option<String>, UnclearPath> {
        let rewrite = Rewrite { path: Some(change), host: None };
        let rest = |path: &[u8]| path.strip_prefix(b"/api").unwrap_or(path).to_vec();
        let target = rewrite.target(target.as_bytes(), rest)?;
        Ok(target.map(|target| String::from_utf8(target).unwrap()))
    }

    fn stripped(target: &str) -> Option<String> {
        changed(PathChange::Strip(b"/api"[..].into()), target).unwrap()
    }

    fn replaced(template: &str, target: &str) -> Result<Option<String>, UnclearPath> {
        let template = Template::read(template, Template::IN_PATHS).unwrap();
        changed(PathChange::Replace(template), target)
    }

    #[test]
    fn a_prefix_goes_where_it_is_whole_segments() {
        for (target, expected) in [
            ("/api/users?a=/api", Some("/users?a=/api")),
            ("/api", Some("/")),
            ("/api?x", Some("/?x")),
            ("/api/", Some("/")),
            ("/api//evil.test/x", Some("/evil.test/x")),
            ("/apis/x", None),
            ("/x/api", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(stripped(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_path_is_replaced_and_its_query_stays() {
        for (template, target, expected) in [
            ("/new{rest}", "/api/a/b?c", "/new/a/b?c"),
            ("/new/{rest}", "/api/a", "/new/a"),
            ("/new{rest}", "/api", "/new"),
            ("/fixed", "/api/a?b", "/fixed?b"),
            ("/v1{path}", "/api/a", "/v1/api/a"),
            ("{rest}", "/api", "/"),
            ("{rest}", "/api//a.test", "/a.test"),
        ] {
            assert_eq!(
                replaced(template, target).unwrap().as_deref(),
                Some(expected),
                "{template}"
            );
        }
        assert_eq!(replaced("{rest}..", "/api/"), Err(UnclearPath));
    }

    proptest::proptest! {
        /// Whatever comes out is a path that a strict reader takes, in its normal form.
        #[test]
        fn what_goes_out_is_a_normal_path(path in "(/[a-z.%/]{0,8}){1,4}(\\?[a-z/.]{0,5})?") {
            let end = path_end(path.as_bytes());
            let Ok(normal) = normal_path(&path.as_bytes()[..end]) else { return Ok(()) };
            let asked = [&normal, &path.as_bytes()[end..]].concat();
            let strip = Rewrite { path: Some(PathChange::Strip(b"/a"[..].into())), host: None };
            if let Ok(Some(target)) = strip.target(&asked, <[u8]>::to_vec) {
                let end = path_end(&target);
                proptest::prop_assert!(target.starts_with(b"/") && !target.starts_with(b"//"));
                proptest::prop_assert_eq!(&*normal_path(&target[..end]).unwrap(), &target[..end]);
            }
        }
    }
}
