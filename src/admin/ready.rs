//! Whether this process wants more connections, for those who ask over a network: a balancer in front, or an orchestrator; and
//! metrics for scrapers, where an address is given for those. Nothing can be changed here, so that nobody needs to be known.

use http::{Method, Request, StatusCode};

use super::answer::Answer;
use super::api::Desk;
use super::watch;
use crate::config::Address;
use crate::listen::{self, Settings};
use crate::process::Remote;
use crate::socket::SocketOptions;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// What can be asked at an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Serves {
    pub(super) ready: bool,
    pub(super) metrics: bool,
}

/// What is to be opened: an address that is given for both is opened once.
pub(super) fn openings<'a>(
    ready: Option<&'a Address>,
    metrics: Option<&'a Address>,
) -> Vec<(&'a Address, Serves)> {
    let both = ready.is_some() && ready == metrics;
    let first = ready.map(|address| (address, Serves { ready: true, metrics: both }));
    let second = metrics.filter(|_| !both);
    let second = second.map(|address| (address, Serves { ready: false, metrics: true }));
    first.into_iter().chain(second).collect()
}

/// Opens an address, also beside the socket of a process that leaves it to us.
pub(super) fn open(
    address: &Address,
    takes_over: bool,
) -> Result<Vec<(listen::BoundAddress, std::net::TcpListener)>, listen::BindError> {
    let settings = Settings {
        addresses: vec![address.clone()],
        backlog: BACKLOG,
        options: SocketOptions::default(),
    };
    let open = (|_: &listen::BoundAddress| false, |_| takes_over);
    let bound = listen::bind(address, &settings, 1, open)?.into_iter().flat_map(|bound| {
        let address = bound.address;
        bound.sockets.into_iter().map(move |socket| (address.clone(), socket.into()))
    });
    Ok(bound.collect())
}

/// Opens the address; where it cannot be, the log says why.
pub(super) fn bind(
    (address, serves): (&Address, Serves),
    takes_over: bool,
) -> Vec<(std::net::TcpListener, Serves)> {
    match open(address, takes_over) {
        Ok(bound) => {
            for (address, _) in &bound {
                if serves.ready {
                    tracing::info!("says whether it is ready at http://{address}/ready");
                }
                if serves.metrics {
                    tracing::info!("metrics at http://{address}/metrics");
                }
            }
            bound.into_iter().map(|(_, socket)| (socket, serves)).collect()
        }
        Err(error) => {
            let what = if serves.ready { "whether it is ready" } else { "for metrics" };
            tracing::warn!("nobody can ask {what}: {error}");
            Vec::new()
        }
    }
}

/// The answer to a request.
pub(super) fn answer<B>(request: &Request<B>, serves: Serves, desk: &Desk) -> Answer {
    let (method, path) = (request.method(), request.uri().path());
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/metrics" if serves.metrics && is_get => watch::scraped(request.headers(), desk),
        "/metrics" if serves.metrics => Answer::only_get(),
        _ if serves.ready => of_ready(method, path, &desk.remote),
        _ => Answer::text(StatusCode::NOT_FOUND, "there is /metrics\n"),
    }
}

fn of_ready(method: &Method, path: &str, remote: &Remote) -> Answer {
    let said = |status, text: &str| Answer::text(status, text);
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/ready") if remote.is_draining() => {
            said(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        (&Method::GET | &Method::HEAD, "/ready") => said(StatusCode::OK, "ready\n"),
        (&Method::GET | &Method::HEAD, "/live") => said(StatusCode::OK, "live\n"),
        (_, "/ready" | "/live") => said(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
        _ => said(StatusCode::NOT_FOUND, "there are /ready and /live\n"),
    }
}
