//! For whom a request was forwarded: what trusted proxies say of it, and what backends are told. What anybody else says
//! is dropped before a route is looked for, so that no condition, limit, log or backend ever believes it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_wire::{Field, Fields, Known};
use ipnet::IpNet;

use super::session::Session;
use super::stream::Stream;
use crate::config::Forwarding;
use crate::limits::Place;
use crate::observe::ended::ClientAddress;
use crate::tls::{Agreed, Shown};

/// The longest request id that is taken over from a proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What is known of whoever sent the request at hand, besides what stands in its head.
#[derive(Debug)]
pub(super) struct Caller {
    /// Who connected, or for whom a trusted proxy did.
    pub(super) address: ClientAddress,
    /// The same as text, without a port; empty for a Unix socket.
    pub(super) ip: Rc<str>,
    /// What was agreed on when the connection began, where it came through TLS and that matters.
    pub(super) agreed: Option<Arc<Agreed>>,
    /// What it connected to, where a proxy in front of us says so.
    pub(super) local: Option<SocketAddr>,
    /// `http` or `https`, as it asks.
    pub(super) scheme: &'static str,
    /// The user that was let in.
    pub(super) user: Option<String>,
    /// The place that the request takes on its route, until it has ended.
    pub(super) place: Option<Place>,
}

/// Which forwarding headers a backend gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwards {
    pub(crate) x_forwarded: Forwarding,
    pub(crate) forwarded: Forwarding,
}

impl Caller {
    pub(super) fn of(address: ClientAddress, agreed: Option<Arc<Agreed>>) -> Caller {
        let ip = ip_of(address).map_or_else(String::new, |ip| ip.to_string());
        let (local, user, place) = (None, None, None);
        Caller { address, ip: ip.into(), agreed, local, scheme: "http", user, place }
    }

    /// The same for one more request of the same client.
    pub(super) fn again(&self) -> Caller {
        let (ip, agreed) = (Rc::clone(&self.ip), self.agreed.clone());
        let Caller { address, local, scheme, .. } = *self;
        Caller { address, ip, agreed, local, scheme, user: None, place: None }
    }

    /// Another address of whoever uses the connection.
    fn move_to(&mut self, address: ClientAddress) {
        if self.address != address {
            let (local, scheme) = (self.local, self.scheme);
            *self = Caller { local, scheme, ..Caller::of(address, self.agreed.take()) };
        }
    }

    /// The certificate that the client has shown.
    pub(super) fn shown(&self) -> Option<&Arc<Shown>> {
        self.agreed.as_ref()?.shown.as_ref()
    }
}

impl Session<'_> {
    /// The address of the client, behind the proxies that are trusted.
    pub(super) fn client_ip(&self) -> Option<IpAddr> {
        ip_of(self.caller.address)
    }

    /// `http` or `https`, as the client asked.
    pub(super) fn scheme(&self) -> &'static str {
        self.caller.scheme
    }

    /// Goes back to whoever connected, for a request of which nothing is known.
    pub(super) fn unvet(&mut self) {
        (self.caller.user, self.caller.place) = (None, None);
        self.caller.move_to(self.client);
    }

    /// Finds out who sent the request, and drops what nobody vouches for.
    pub(super) fn vet(&mut self) {
        (self.caller.user, self.caller.place) = (None, None);
        let proxies = &self.site.rules.trusted_proxies;
        let (address, is_vouched_for) = sender(&mut self.request.fields, self.client, proxies);
        self.caller.move_to(address);
        if !is_vouched_for {
            return;
        }
        if let Some(id) = self.request.fields.first(Known::XRequestId)
            && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.iter().all(u8::is_ascii_graphic)
        {
            self.request_id = String::from_utf8_lossy(id).into_owned();
        }
    }

    /// Writes the forwarding headers for a backend. A route may change them afterwards.
    pub(super) fn stamp(&mut self, forwards: Forwards) {
        let keeps = |what| matches!(what, Forwarding::Append | Forwarding::Keep);
        let adds = |what, was_said: bool| match what {
            Forwarding::Append | Forwarding::Replace => true,
            Forwarding::Keep => was_said,
            Forwarding::Drop => false,
        };
        if !keeps(forwards.x_forwarded) {
            self.request.fields.retain(|field| !is_x_forwarded(&field));
        }
        let was_said = || self.request.fields.iter().any(|field| is_x_forwarded(&field));
        if adds(forwards.x_forwarded, forwards.x_forwarded == Forwarding::Keep && was_said()) {
            self.stamp_x();
        }
        let was_said = self.request.fields.first(Known::Forwarded).is_some();
        let ours = adds(forwards.forwarded, was_said)
            .then(|| element(ip_of(self.client), &self.request.authority, self.scheme()));
        let fields = &mut self.request.fields;
        let said = fields.all(Known::Forwarded).filter(|_| keeps(forwards.forwarded));
        let list: Vec<_> = said.map(<[u8]>::to_vec).chain(ours).collect();
        fields.remove(Known::Forwarded);
        if !list.is_empty() {
            fields.push_known(Known::Forwarded, b"Forwarded", &list.join(&b", "[..]));
        }
        fields.remove(Known::XRequestId);
        fields.push_known(Known::XRequestId, b"X-Request-Id", self.request_id.as_bytes());
    }

    /// `X-Forwarded-*` as most servers read them: a trusted proxy's own words stay, and it is added to their list.
    fn stamp_x(&mut self) {
        let scheme = self.scheme();
        self.find_local_port();
        let fields = &mut self.request.fields;
        let is_direct = self.caller.address == self.client && !self.caller.ip.is_empty();
        if is_direct && fields.first(Known::XForwardedFor).is_none() {
            fields.push_known(Known::XForwardedFor, b"X-Forwarded-For", self.caller.ip.as_bytes());
        } else if let Some(peer) = ip_of(self.client) {
            let said: Vec<_> = fields.all(Known::XForwardedFor).map(<[u8]>::to_vec).collect();
            let list: Vec<_> = said.into_iter().chain([peer.to_string().into_bytes()]).collect();
            fields.remove(Known::XForwardedFor);
            fields.push_known(Known::XForwardedFor, b"X-Forwarded-For", &list.join(&b", "[..]));
        }
        let mut unless_said = |known, name: &[u8], value: &[u8]| {
            if fields.first(known).is_none() {
                fields.push_known(known, name, value);
            }
        };
        unless_said(Known::XForwardedProto, b"X-Forwarded-Proto", scheme.as_bytes());
        unless_said(Known::XForwardedHost, b"X-Forwarded-Host", &self.request.authority);
        if let Some(port) = &self.local_port {
            unless_said(Known::XForwardedPort, b"X-Forwarded-Port", port.as_bytes());
        }
    }

    /// Asks the kernel, once for a connection, for the port that the client connected to. A stream of HTTP/2 was told.
    fn find_local_port(&mut self) {
        if self.local_port.is_none() && matches!(self.stream, Stream::H1(_)) {
            self.local_port = self.connected_to().map(port_of);
        }
    }

    /// What the client connected to.
    pub(super) fn connected_to(&self) -> Option<SocketAddr> {
        self.caller.local.or_else(|| match &self.stream {
            Stream::H1(stream) => stream.socket.socket().local_address(),
            Stream::H2(_) => self.local_address,
        })
    }
}

/// Who sent a request that `peer` has brought, and whether trusted proxies vouch for what it says. Nothing stays in it that nobody
/// vouches for.
pub(super) fn sender(
    fields: &mut Fields,
    peer: ClientAddress,
    proxies: &[IpNet],
) -> (ClientAddress, bool) {
    let Some(proxy) = ip_of(peer).filter(|proxy| is_in(proxies, *proxy)) else {
        fields.retain(|field| !is_forwarding(&field));
        return (peer, false);
    };
    let client = client_of(fields, proxy, proxies);
    (client.map_or(peer, ClientAddress::Told), true)
}

/// The port of an address as text.
pub(super) fn port_of(address: SocketAddr) -> Rc<str> {
    address.port().to_string().into()
}

pub(super) fn ip_of(address: ClientAddress) -> Option<IpAddr> {
    match address {
        ClientAddress::Ip(address) => Some(address.ip().to_canonical()),
        ClientAddress::Told(address) => Some(address),
        ClientAddress::Unix => None,
    }
}

pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Whether a field says, or might be taken to say, who or what is in front of us. Some servers read an underscore as a
/// hyphen.
fn is_forwarding(field: &Field<'_>) -> bool {
    matches!(field.known, Known::Forwarded | Known::XRequestId) || is_x_forwarded(field)
}

fn is_x_forwarded(field: &Field<'_>) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let same = |(byte, wanted): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(wanted) || (*byte == b'_' && *wanted == b'-')
    };
    field.known == Known::XRealIp
        || (field.name.len() > PREFIX.len() && field.name.iter().zip(PREFIX).all(same))
}

/// The client that trusted proxies forward for: the last address that is not one of theirs. Each proxy vouches only for
/// the address it was connected from, so the list is read from its end, and not beyond what is no address.
fn client_of(fields: &Fields, peer: IpAddr, proxies: &[IpNet]) -> Option<IpAddr> {
    let mut client = None;
    let values: Vec<_> = fields.all(Known::XForwardedFor).collect();
    for said in values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        if !is_in(proxies, client.unwrap_or(peer)) {
            break;
        }
        match address(said.trim_ascii()) {
            Some(address) => client = Some(address),
            None => break,
        }
    }
    client
}

/// An address as proxies write it: alone, or with a port.
fn address(said: &[u8]) -> Option<IpAddr> {
    let said = str::from_utf8(said).ok()?;
    let bare = said.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(said);
    let alone = bare.parse::<IpAddr>().ok();
    let address = alone.or_else(|| Some(said.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// Our element of `Forwarded` (RFC 7239 4).
fn element(peer: Option<IpAddr>, host: &[u8], scheme: &str) -> Vec<u8> {
    let from = match peer {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    let mut element = format!("for={from};proto={scheme}").into_bytes();
    if !host.is_empty() {
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(host);
        element.push(b'"');
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(list: &[&str]) -> Option<String> {
        let mut fields = Fields::default();
        list.iter().for_each(|value| fields.push(b"X-Forwarded-For", value.as_bytes()));
        let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap());
        let found = client_of(&fields, "10.0.0.1".parse().unwrap(), &proxies);
        found.map(|ip| ip.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        for (list, expected) in [
            (&[][..], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.2"], Some("192.0.2.1")),
            (&["6.6.6.6", "192.0.2.1 ,10.0.0.2", "10.0.0.3"], Some("192.0.2.1")),
            (&["10.0.0.9, 10.0.0.8"], Some("10.0.0.9")),
            (&["192.0.2.1:4711, [2001:db8::1]:80, [2001:db8::2]"], Some("192.0.2.1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, unknown, 10.0.0.2"], Some("10.0.0.2")),
            (&["6.6.6.6, , 10.0.0.2"], Some("10.0.0.2")),
            (&["6.6.6.6, unknown"], None),
        ] {
            assert_eq!(client(list).as_deref(), expected, "{list:?}");
        }
    }

    #[test]
    fn look_alikes_of_forwarding_headers_are_known() {
        let is = |name: &str| {
            let field =
                Field { name: name.as_bytes(), value: b"", known: Known::of(name.as_bytes()) };
            is_forwarding(&field)
        };
        for name in ["X-Forwarded-For", "x_forwarded_user", "X-FORWARDED-PREFIX", "X-Real-IP"] {
            assert!(is(name), "{name}");
        }
        for name in ["X-Forwarded", "X-Forwarded-", "X-Forward-For", "Accept"] {
            assert!(!is(name), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_list_makes_finding_the_client_panic(value in "[0-9a-f:.,\\[\\] ]{0,60}|\\PC{0,20}") {
            let _ = client(&[&value]);
        }
    }
}
