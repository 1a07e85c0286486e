//! Every path that can be asked for, in one table: what the server answers, what the description of the API says, and what the docs list
//! all come from here, so that none of them can know of a path that the others do not.

use http::Method;

/// What a path is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Status,
    State,
    Events,
    Metrics,
    Journal,
    Explain,
    Connections,
    Close,
    Config,
    Configured,
    ConfiguredOne,
    Put,
    Patch,
    Remove,
    Batch,
    Reload,
    Diff,
    Confirm,
    Upgrade,
    Drain,
    Ready,
    Down,
    Weight,
    OpenApi,
}

impl Does {
    /// Whether it has to say which config it is meant for.
    pub(super) fn is_conditional(self) -> bool {
        matches!(self, Does::Put | Does::Patch | Does::Remove | Does::Batch)
    }
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Parts in braces stand for any text without a slash.
    pub(super) path: &'static str,
    pub(super) does: Does,
    /// What it is for, in a line.
    pub(super) about: &'static str,
}

const fn route(method: &'static str, path: &'static str, does: Does, about: &'static str) -> Route {
    Route { method, path, does, about }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    route("GET", "/v1/status", Does::Status, "Listeners and backends, in short."),
    route("GET", "/v1/state", Does::State, "Everything that can be seen of the process."),
    route(
        "GET",
        "/v1/events",
        Does::Events,
        "The state at once and then each second, as server-sent events.",
    ),
    route(
        "GET",
        "/metrics",
        Does::Metrics,
        "Metrics, in the text formats of Prometheus and OpenMetrics.",
    ),
    route(
        "GET",
        "/v1/journal",
        Does::Journal,
        "The latest decisions: what went where, and by what that was decided.",
    ),
    route(
        "POST",
        "/v1/explain",
        Does::Explain,
        "Says where a request or a connection would go now, and why.",
    ),
    route(
        "GET",
        "/v1/connections",
        Does::Connections,
        "Connections that are open, a page of them.",
    ),
    route("DELETE", "/v1/connections/{id}", Does::Close, "Ends one connection now."),
    route(
        "GET",
        "/v1/config",
        Does::Config,
        "The config in force, with what is wrong with it drawn in.",
    ),
    route(
        "GET",
        "/v1/upstreams/{upstream}/backends",
        Does::Configured,
        "Backends as they are configured.",
    ),
    route(
        "GET",
        "/v1/upstreams/{upstream}/backends/{backend}",
        Does::ConfiguredOne,
        "One backend as it is configured.",
    ),
    route(
        "PUT",
        "/v1/upstreams/{upstream}/backends/{backend}",
        Does::Put,
        "Adds a backend, or replaces its keys.",
    ),
    route(
        "PATCH",
        "/v1/upstreams/{upstream}/backends/{backend}",
        Does::Patch,
        "Changes keys of a backend.",
    ),
    route(
        "DELETE",
        "/v1/upstreams/{upstream}/backends/{backend}",
        Does::Remove,
        "Removes a backend.",
    ),
    route("POST", "/v1/batch", Does::Batch, "Several changes of backends: all of them, or none."),
    route("POST", "/v1/reload", Does::Reload, "Reads the config file again."),
    route("POST", "/v1/diff", Does::Diff, "Says what another config would change."),
    route("POST", "/v1/confirm", Does::Confirm, "Stays with the config of the last reload."),
    route("POST", "/v1/upgrade", Does::Upgrade, "Goes on in a new process."),
    route(
        "POST",
        "/v1/drain",
        Does::Drain,
        "Sends a backend nothing new, or stops the whole process so.",
    ),
    route("POST", "/v1/ready", Does::Ready, "Takes back what was said by `drain` or `down`."),
    route("POST", "/v1/down", Does::Down, "Treats a backend as failed."),
    route(
        "POST",
        "/v1/weight",
        Does::Weight,
        "Gives a backend another weight until the next start.",
    ),
    route("GET", "/v1/openapi.json", Does::OpenApi, "This API, described for programs."),
];

/// A path that was found, with what stands in the place of its parts in braces.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) route: Route,
    pub(super) parts: Vec<String>,
}

/// Why none was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// There is no such path.
    Path,
    /// It is there for these methods.
    Method(String),
}

/// Finds what a request is for. What can be had with GET can be with HEAD.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Missed> {
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut others: Vec<&str> = Vec::new();
    for route in ROUTES {
        let Some(parts) = parts(route.path, path) else { continue };
        if route.method == wanted {
            return Ok(Found { route: *route, parts });
        }
        others.push(route.method);
    }
    if others.is_empty() { Err(Missed::Path) } else { Err(Missed::Method(others.join(", "))) }
}

fn parts(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut parts = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parts),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                parts.push(super::query::decoded(given).filter(|part| !part.is_empty())?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_its_method_and_says_which_there_are_else() {
        let found = find(&Method::DELETE, "/v1/connections/7%2F8").unwrap();
        assert_eq!((found.route.does, found.parts), (Does::Close, vec!["7/8".to_owned()]));
        assert_eq!(find(&Method::HEAD, "/v1/status").unwrap().route.does, Does::Status);
        let missed = find(&Method::PUT, "/v1/status").unwrap_err();
        assert_eq!(missed, Missed::Method("GET".to_owned()));
        for path in ["/v1/none", "/v1/connections/", "/v1/connections/%zz", "/v1/status/"] {
            assert_eq!(find(&Method::DELETE, path).unwrap_err(), Missed::Path, "{path}");
        }
    }
}
