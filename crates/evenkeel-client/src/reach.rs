//! From an address as a person writes it to a connection: look-up, TCP, TLS, all within one time limit. A name with an
//! address that answers nobody must leave time for its others: each gets an equal share of what is left.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connector::{Keepalive, Plan};
use crate::error::{Step, Unreached};
use crate::stream::Stream;
use crate::tls::Tls;

/// The step that failed, and what was said; nothing when its time was up.
type Failure = (Step, Option<io::Error>);

/// Connects to one address. Each try that comes to nothing is added to `failed`.
pub(crate) async fn reach(
    plan: &Plan,
    address: &str,
    failed: &mut Vec<Unreached>,
) -> Option<(Stream, SocketAddr)> {
    let began = Instant::now();
    let unreached = |ip, (step, cause), since: Instant| Unreached {
        address: address.to_owned(),
        ip,
        step,
        cause,
        after: since.elapsed(),
    };
    let found = match timeout(plan.timeout, look_up(address)).await {
        Ok(Ok(found)) => found,
        Ok(Err(cause)) => {
            failed.push(unreached(None, (Step::LookUp, Some(cause)), began));
            return None;
        }
        Err(_) => {
            failed.push(unreached(None, (Step::LookUp, None), began));
            return None;
        }
    };
    let mut waiting = u32::try_from(found.len()).unwrap_or(u32::MAX);
    for ip in found {
        let began_here = Instant::now();
        let left = plan.timeout.saturating_sub(began.elapsed());
        let share = left.checked_div(waiting).unwrap_or(left);
        waiting = waiting.saturating_sub(1);
        match reach_ip(plan, address, ip, share).await {
            Ok(stream) => return Some((stream, ip)),
            Err(failure) => failed.push(unreached(Some(ip), failure, began_here)),
        }
    }
    None
}

async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.parse() {
        return Ok(vec![ip]);
    }
    let found: Vec<_> = lookup_host(address).await?.collect();
    if found.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(found)
}

async fn reach_ip(
    plan: &Plan,
    address: &str,
    ip: SocketAddr,
    share: Duration,
) -> Result<Stream, Failure> {
    // A limit that no clock reaches is none.
    let due = Instant::now().checked_add(share);
    let stream = within(due, Step::Connect, TcpStream::connect(ip)).await?;
    set(&stream, plan).map_err(|cause| (Step::Connect, Some(cause)))?;
    match &plan.tls {
        None => Ok(Stream::Clear(stream)),
        Some(tls) => within(due, Step::Tls, secure(tls, address, stream)).await,
    }
}

async fn within<T>(
    due: Option<Instant>,
    step: Step,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    let done = match due {
        Some(due) => timeout_at(due, work).await.map_err(|_| (step, None))?,
        None => work.await,
    };
    done.map_err(|cause| (step, Some(cause)))
}

async fn secure(tls: &Tls, address: &str, stream: TcpStream) -> io::Result<Stream> {
    let name = ServerName::try_from(tls.name_for(host(address)).to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(tls.config()).connect(name, stream).await?;
    Ok(Stream::Secured(Box::new(stream)))
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.filter(|bare| bare.parse::<IpAddr>().is_ok()).unwrap_or(host)
}

fn set(stream: &TcpStream, plan: &Plan) -> io::Result<()> {
    stream.set_nodelay(plan.nodelay)?;
    let Some(Keepalive { idle, interval, count }) = plan.keepalive else { return Ok(()) };
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_name_to_verify_is_the_host_alone() {
        assert_eq!(host("db.example:5432"), "db.example");
        assert_eq!(host("[::1]:80"), "::1");
        assert_eq!(host("10.0.0.2:80"), "10.0.0.2");
        assert_eq!(host("no-port"), "no-port");
    }
}
