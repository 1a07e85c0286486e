//! Which routes may take a request, by its host and path: hash maps over whole hosts, and a tree of path segments under each.
//! It must never leave out a route whose conditions hold; it may name one too many, since the caller holds the conditions
//! against every route it names. Clients choose hosts and paths, so every map has a random key, and a walk down the tree
//! hashes each byte of a path once for each of the at most three places where the host is found.

use std::collections::HashMap;

use super::Conditions;
use crate::config::{HostPattern, PathPattern};

/// A route with more pairs of host and path than this is listed under its hosts alone, so that the index stays small.
const PAIRS_MAX: usize = 4096;

/// Routes by host and path. Lists of routes are in written order.
#[derive(Debug)]
pub(super) struct Index {
    nodes: Vec<Node>,
    exact: HashMap<Box<[u8]>, usize>,
    /// By what stands behind the first label.
    below: HashMap<Box<[u8]>, usize>,
}

/// The paths that begin with the same segments, under one host.
#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<[u8]>, usize>,
    /// Routes for the path that ends here.
    here: Vec<usize>,
    /// Routes for that path and all that begin with its segments.
    open: Vec<usize>,
}

/// The tree of the routes for any host.
const ANY_HOST: usize = 0;

impl Index {
    pub(super) fn of(routes: &[Conditions]) -> Index {
        let nodes = vec![Node::default()];
        let mut index = Index { nodes, exact: HashMap::new(), below: HashMap::new() };
        for (route, conditions) in routes.iter().enumerate() {
            let all: &[PathPattern] = &[PathPattern::Any];
            let pairs = conditions.host.len().max(1).saturating_mul(conditions.path.len());
            let is_open = conditions.path.is_empty() || pairs > PAIRS_MAX;
            let paths = if is_open { all } else { &conditions.path };
            let hosts =
                if conditions.host.is_empty() { &[HostPattern::Any][..] } else { &conditions.host };
            for host in hosts {
                let root = index.root(host);
                paths.iter().for_each(|path| index.add(root, path, route));
            }
        }
        index
    }

    fn root(&mut self, host: &HostPattern) -> usize {
        let (map, name) = match host {
            HostPattern::Any => return ANY_HOST,
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Below(name) => (&mut self.below, name),
        };
        *map.entry(name.as_bytes().into()).or_insert_with(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    fn add(&mut self, root: usize, path: &PathPattern, route: usize) {
        let (path, is_open) = match path {
            PathPattern::Any | PathPattern::Regex(_) => ("", true),
            PathPattern::Exact(path) => (path.as_str(), false),
            PathPattern::Below(path) => (path.as_str(), true),
        };
        let mut at = root;
        for segment in segments(path.as_bytes()) {
            let new = self.nodes.len();
            at = *self.nodes[at].children.entry(segment.into()).or_insert(new);
            if at == new {
                self.nodes.push(Node::default());
            }
        }
        let node = &mut self.nodes[at];
        let list = if is_open { &mut node.open } else { &mut node.here };
        if list.last() != Some(&route) {
            list.push(route);
        }
    }

    /// The first route in written order that may take the request and does. The host is a normal one.
    pub(super) fn first(
        &self,
        host: &[u8],
        path: &[u8],
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let dot = host.iter().position(|byte| *byte == b'.');
        let behind = dot.and_then(|dot| host.get(dot + 1..)).unwrap_or_default();
        let mut best = None;
        let roots = [Some(&ANY_HOST), self.exact.get(host), self.below.get(behind)];
        for root in roots.into_iter().flatten() {
            self.walk(*root, path, &mut |list: &[usize]| {
                let before =
                    list.iter().copied().take_while(|at| best.is_none_or(|best| *at < best));
                best = before.into_iter().find(|at| takes(*at)).or(best);
            });
        }
        best
    }

    /// Hands over every list of routes that a path under a host may take.
    fn walk(&self, root: usize, path: &[u8], offer: &mut impl FnMut(&[usize])) {
        let mut node = self.nodes.get(root);
        let mut left = segments(path);
        while let Some(at) = node {
            offer(&at.open);
            let Some(segment) = left.next() else { return offer(&at.here) };
            node = at.children.get(segment).and_then(|child| self.nodes.get(*child));
        }
    }
}

/// What stands between the slashes of a path, from the first on.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').skip(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Ask, Routes, normal_path};
    use super::*;

    const HOSTS: [&str; 9] =
        ["*", "a.test", "*.test", "b.a.test", "*.a.test", "A.test.", "[::1]", "[0::1]", ""];
    const PATHS: [&str; 12] = [
        "/", "/a", "/a/", "/a/b", "/a/b/c", "//a", "/ab", "*", "/a/*", "/a/b/*", "/a//*", "~ /a/.*",
    ];

    fn picks(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        proptest::collection::vec(proptest::sample::select(from), 0..3)
    }

    proptest! {
        #[test]
        fn the_route_found_is_the_first_that_holds(
            routes in proptest::collection::vec((picks(&HOSTS[..8]), picks(&PATHS), any::<bool>()), 0..12),
            host in proptest::sample::select(&HOSTS[..]),
            path in proptest::sample::select(&PATHS[..]),
        ) {
            let conditions = |(hosts, paths, posts): (Vec<&str>, Vec<&str>, bool)| Conditions {
                host: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                path: paths.iter().map(|path| path.parse().unwrap()).collect(),
                method: if posts { vec![b"POST"[..].into()] } else { Vec::new() },
                ..Conditions::default()
            };
            let routes: Vec<_> = routes.into_iter().map(conditions).collect();
            let fields = evenkeel_wire::Fields::default();
            let ask = Ask {
                host: host.as_bytes(), path: path.as_bytes(), query: b"", method: b"GET",
                fields: &fields, client: None, shown: None,
            };
            let expected = routes.iter().position(|conditions| conditions.hold(&ask));
            prop_assert_eq!(Routes::compile(routes).find(&ask), expected);
        }

        #[test]
        fn the_config_takes_just_the_paths_that_are_normal(path in "/([aZ./-]|%[2357][0-9a-fA-F]|%C3|%c3){0,6}") {
            let is_normal = normal_path(path.as_bytes()).is_ok_and(|normal| *normal == *path.as_bytes());
            prop_assert_eq!(path.parse::<PathPattern>().is_ok(), is_normal);
        }

        #[test]
        fn a_normal_path_stays_as_it_is(path in "/([a./%-]|%2[eE]|%c3|\\.\\./){0,12}") {
            if let Ok(normal) = normal_path(path.as_bytes()) {
                prop_assert_eq!(normal_path(&normal), Ok(normal.clone()));
                prop_assert!(normal.starts_with(b"/"));
            }
        }
    }

    #[test]
    fn a_route_with_very_many_hosts_and_paths_is_found_all_the_same() {
        let host = (0..100).map(|n| HostPattern::Exact(format!("h{n}.test"))).collect();
        let path = (0..100).map(|n| PathPattern::Exact(format!("/p{n}"))).collect();
        let routes = Routes::compile(vec![Conditions { host, path, ..Conditions::default() }]);
        assert!(routes.index.nodes.len() < 200);
        let fields = evenkeel_wire::Fields::default();
        let ask = Ask {
            host: b"h99.test",
            path: b"/p99",
            query: b"",
            method: b"GET",
            fields: &fields,
            client: None,
            shown: None,
        };
        assert_eq!(routes.find(&ask), Some(0));
        assert_eq!(routes.find(&Ask { path: b"/p100", ..ask }), None);
    }

    /// Run with `cargo test --release --lib -- --ignored --nocapture among_ten_thousand`.
    #[test]
    #[ignore = "prints a figure and promises none"]
    #[expect(clippy::print_stdout, reason = "the figure is what it is run for")]
    fn a_find_among_ten_thousand_routes_takes_about_a_microsecond() {
        let fields = evenkeel_wire::Fields::default();
        for (name, end) in [("exact", ""), ("prefix", "/*")] {
            let form = |n: usize| format!("/shop/{}/item{n}{end}", n % 100);
            let one = |n| Conditions {
                host: vec![HostPattern::Exact(format!("h{}.test", n % 10))],
                path: vec![form(n).parse().unwrap()],
                ..Conditions::default()
            };
            let routes = Routes::compile((0..10_000).map(one).collect());
            let asks: Vec<_> = (0..10_000)
                .map(|n| (format!("h{}.test", n % 10), form(n).replace("/*", "/a/b/c")))
                .collect();
            let began = std::time::Instant::now();
            for n in 0..1_000_000_usize {
                let (host, path) = &asks[n * 7919 % 10_000];
                let (host, path) = (host.as_bytes(), path.as_bytes());
                let ask = Ask {
                    host,
                    path,
                    query: b"",
                    method: b"GET",
                    fields: &fields,
                    client: None,
                    shown: None,
                };
                assert_eq!(routes.find(&ask), Some(n * 7919 % 10_000));
            }
            println!("{name}: {} ns a find", began.elapsed().as_nanos() / 1_000_000);
        }
    }
}
