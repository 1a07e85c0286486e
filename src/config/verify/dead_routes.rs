//! Routes that nothing can reach, because one above takes all that they would. Only routes that ask for the same
//! host, or the same path, are compared: ten thousand of them must not make a start slow.

use std::collections::HashMap;

use super::Complaints;
use crate::config::{HostPattern, HttpListener, PathPattern, Route};

/// After so many comparisons the rest is let be: a warning is not worth a slow start.
const COMPARISONS_MAX: usize = 4_000_000;

pub(super) fn verify(listener: &HttpListener, complaints: &mut Complaints) {
    let everything = Route::default();
    let mut above = Above { routes: &listener.route, ..Above::default() };
    for (index, route) in listener.route.iter().enumerate() {
        if let Some(other) = above.covering(route) {
            let message = format!(
                "this route can never match: route {} above takes everything it would",
                other + 1
            );
            let keys = ["route", &index.to_string()];
            complaints.warning(&keys, message, "move it up, or remove it");
        }
        above.add(index, route);
    }
    if listener.upstream.is_some()
        && let Some(other) = above.covering(&everything)
    {
        let message = format!("nothing is left for this: route {} takes everything", other + 1);
        complaints.warning(&["upstream"], message, "remove it, or give that route a condition");
    }
}

/// What a route asks of a host or of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asks<'a> {
    Any,
    Exact(&'a str),
    Below(&'a str),
}

impl<'a> From<&'a HostPattern> for Asks<'a> {
    fn from(host: &'a HostPattern) -> Asks<'a> {
        match host {
            HostPattern::Any => Asks::Any,
            HostPattern::Exact(name) => Asks::Exact(name),
            HostPattern::Below(name) => Asks::Below(name),
        }
    }
}

impl<'a> From<&'a PathPattern> for Asks<'a> {
    fn from(path: &'a PathPattern) -> Asks<'a> {
        match path {
            PathPattern::Any => Asks::Any,
            PathPattern::Exact(path) => Asks::Exact(path),
            PathPattern::Below(path) => Asks::Below(path),
            // Found again by the same expression only, which is also all that it covers.
            PathPattern::Regex(regex) => Asks::Exact(regex.as_str()),
        }
    }
}

/// The routes above one, by each host and by each path they ask for.
#[derive(Default)]
struct Above<'a> {
    routes: &'a [Route],
    by_host: HashMap<Asks<'a>, Vec<usize>>,
    by_path: HashMap<Asks<'a>, Vec<usize>>,
    compared: usize,
}

impl<'a> Above<'a> {
    fn add(&mut self, index: usize, route: &'a Route) {
        fn enter<'a, P>(map: &mut HashMap<Asks<'a>, Vec<usize>>, patterns: &'a [P], index: usize)
        where
            Asks<'a>: From<&'a P>,
        {
            if patterns.is_empty() {
                map.entry(Asks::Any).or_default().push(index);
            }
            for pattern in patterns {
                map.entry(pattern.into()).or_default().push(index);
            }
        }
        enter(&mut self.by_host, &route.host, index);
        enter(&mut self.by_path, &route.path, index);
    }

    /// The first route that covers this one. It must cover this one's first host and first path too, so that only
    /// the routes with a pattern that could do so are looked at.
    fn covering(&mut self, route: &'a Route) -> Option<usize> {
        let host = route.host.first().map_or(Asks::Any, Asks::from);
        let path = route.path.first().map_or(Asks::Any, Asks::from);
        let by_host = found(&self.by_host, &hosts_covering(host));
        let by_path = found(&self.by_path, &paths_covering(path));
        let count = |lists: &[&Vec<usize>]| lists.iter().map(|list| list.len()).sum::<usize>();
        let candidates = if count(&by_host) < count(&by_path) { by_host } else { by_path };
        self.compared = self.compared.saturating_add(count(&candidates));
        if self.compared > COMPARISONS_MAX {
            return None;
        }
        let routes = self.routes;
        let covers = |index: &&usize| routes.get(**index).is_some_and(|one| covers(one, route));
        candidates.iter().filter_map(|list| list.iter().find(covers)).min().copied()
    }
}

fn found<'m, 'a>(map: &'m HashMap<Asks<'a>, Vec<usize>>, keys: &[Asks<'a>]) -> Vec<&'m Vec<usize>> {
    keys.iter().filter_map(|key| map.get(key)).collect()
}

/// Every pattern that covers a host, as [`HostPattern::covers`] says.
fn hosts_covering(host: Asks<'_>) -> Vec<Asks<'_>> {
    match host {
        Asks::Any => vec![Asks::Any],
        Asks::Below(_) => vec![Asks::Any, host],
        Asks::Exact(name) => {
            let parent = name.split_once('.').map(|(_, parent)| Asks::Below(parent));
            [Asks::Any, host].into_iter().chain(parent).collect()
        }
    }
}

/// Every pattern that covers a path, as [`PathPattern::covers`] says: those that end where a segment does.
fn paths_covering(path: Asks<'_>) -> Vec<Asks<'_>> {
    let (Asks::Exact(text) | Asks::Below(text)) = path else { return vec![Asks::Any] };
    let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
    let below = ends.filter_map(|end| text.get(..end)).map(Asks::Below);
    let exact = matches!(path, Asks::Exact(_)).then_some(path);
    below.chain(exact).chain([Asks::Any]).collect()
}

/// Whether a route takes every request that `other` would.
fn covers(route: &Route, other: &Route) -> bool {
    /// An empty list is no condition.
    fn all<T>(mine: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
        let one = |their: &T| mine.iter().any(|mine| covers(mine, their));
        mine.is_empty() || (!theirs.is_empty() && theirs.iter().all(one))
    }
    let value_covers = |mine: &str, their: &str| mine == "*" || mine == their;
    (route.host.contains(&HostPattern::Any) || all(&route.host, &other.host, HostPattern::covers))
        && (route.path.contains(&PathPattern::Any)
            || all(&route.path, &other.path, PathPattern::covers))
        && all(&route.method, &other.method, |mine, their| mine == their)
        && all(&route.client, &other.client, |mine, their| mine.contains(their))
        && (route.client_certificate.is_none()
            || route.client_certificate == other.client_certificate)
        && route.header.iter().all(|(name, mine)| {
            let same = |their: &str| their.eq_ignore_ascii_case(name);
            other.header.iter().any(|(name, their)| same(name) && value_covers(mine, their))
        })
        && route.query.iter().all(|(name, mine)| {
            other.query.get(name).is_some_and(|their| value_covers(mine, their))
        })
}
