//! Whether this process wants more connections, for those who ask over a network: a balancer in front, or an orchestrator.
//! Nothing can be changed here and nothing else be learnt, so that nobody needs to be known.

use http::{Method, StatusCode};

use super::api::Answer;
use crate::config::Address;
use crate::listen::{self, Settings};
use crate::process::Remote;
use crate::socket::SocketOptions;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// Opens the address; where it cannot be, the log says why.
pub(super) fn bind(address: &Address, takes_over: bool) -> Vec<std::net::TcpListener> {
    let settings = Settings {
        addresses: vec![address.clone()],
        backlog: BACKLOG,
        options: SocketOptions::default(),
    };
    // Beside the socket of a process that leaves it to us.
    let open = (|_: &listen::BoundAddress| false, |_| takes_over);
    match listen::bind(address, &settings, 1, open) {
        Ok(bound) => {
            for one in &bound {
                tracing::info!("says whether it is ready at http://{}/ready", one.address);
            }
            let sockets = bound.into_iter().flat_map(|bound| bound.sockets);
            sockets.map(std::net::TcpListener::from).collect()
        }
        Err(error) => {
            tracing::warn!("nobody can ask whether it is ready: {error}");
            Vec::new()
        }
    }
}

/// The answer to a request.
pub(super) fn answer(method: &Method, path: &str, remote: &Remote) -> Answer {
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
