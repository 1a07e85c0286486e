//! The answer to a client that speaks HTTP in clear where TLS is expected: a page that says so, and no more.
//! Its request is not read, so that nothing of it can be acted on.

use tokio::time::Instant;

use super::forwarded::Caller;
use super::record::Told;
use super::session::Session;
use super::stream::Stream;
use super::{Local, Site};
use crate::link::Link;
use crate::observe::ended::{ClientAddress, Why};
use crate::socket::Socket;
use crate::tcp::{Cut, Outcome};

/// The cause in the page and in the access log.
const CAUSE: &str = "plain-http-where-tls-is-expected";

/// Tells the client, and ends the connection.
pub(crate) async fn refuse_plain(
    socket: Socket,
    site: &Site,
    client: ClientAddress,
    local: &Local,
    cut: &Cut,
) -> Outcome {
    let stream = Stream::h1(Link::Plain(socket));
    let mut session = Session::new(site, local, cut, Caller::of(client, None), stream);
    let told = Told { detail: Some(CAUSE.to_owned()), ..Told::new(Why::TlsFailed) };
    session.end_with(Instant::now(), 400, told).await;
    Outcome { spoke: true, ..Outcome::without_backend(Why::TlsFailed, None) }
}
