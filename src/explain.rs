//! Why a request or a connection goes where it goes: the whole path from the listener to the backend, asked of the very parts that
//! serve traffic. It must never change anything: no turn, no place, no allowance is taken by asking.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ::http::Uri;

use crate::connection::{Job, Service};
use crate::observe::ended::ClientAddress;
use crate::observe::reasons::{Asked, Reasons, RouteRow, TlsReasons};
use crate::route::StreamAsk;
use crate::tcp;
use crate::tls::{Acceptor, Auth};
use crate::upstream::explain::said;
use crate::upstream::{Affinity, Upstream};

/// A listener, as an explanation needs it.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    /// `tcp.NAME` or `http.NAME`.
    pub(crate) section: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) service: &'a Arc<Service>,
}

/// Explains a question to the listeners of one config; an error says what is wrong with the question.
pub(crate) fn explain(doors: &[Door<'_>], asked: &Asked) -> Result<Reasons, String> {
    match &asked.url {
        Some(url) => explain_request(doors, asked, url),
        None => explain_connection(doors, asked),
    }
}

fn explain_request(doors: &[Door<'_>], asked: &Asked, url: &str) -> Result<Reasons, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url} is no whole URL: write http://HOST/PATH or https://HOST/PATH"));
    };
    let is_secure = match scheme {
        "http" => false,
        "https" => true,
        other => return Err(format!("no listener speaks {other}: write http:// or https://")),
    };
    let speaks = |door: &&Door<'_>| {
        matches!(door.service.job, Job::Http(_)) && door.service.tls.is_some() == is_secure
    };
    let usual = if is_secure { 443 } else { 80 };
    let port = Some(uri.port_u16().unwrap_or(usual));
    let door = chosen(doors, asked, (&format!("speaks {scheme}"), port), speaks)?;
    let Job::Http(site) = &door.service.job else {
        return Err(format!("{} is not for HTTP", door.section));
    };
    let mut reasons = begin(door, asked);
    let host = uri.host().unwrap_or_default();
    let name = asked.sni.as_deref().or_else(|| Some(host).filter(|host| is_name(host)));
    if is_secure && !tell_tls(door.service.tls.as_deref(), name, &mut reasons) {
        return Ok(reasons);
    }
    let head = head(asked, authority.as_str(), &uri)?;
    site.explain(&head, peer(asked), &mut reasons);
    if let (Some(tls), Some(request)) = (&door.service.tls, &reasons.request)
        && !tls.covers(name, request.host.as_bytes())
    {
        let end = "refused with 421: its host demands other certificates of clients than the name asked for";
        (reasons.end, reasons.choice) = (end.to_owned(), None);
    }
    if reasons.is_turned_away() {
        reasons.end = "turned away at the door".to_owned();
    }
    Ok(reasons)
}

fn explain_connection(doors: &[Door<'_>], asked: &Asked) -> Result<Reasons, String> {
    let speaks = |door: &&Door<'_>| matches!(door.service.job, Job::Tcp(_));
    let door = chosen(doors, asked, ("is for TCP", None), speaks)?;
    let Job::Tcp(site) = &door.service.job else {
        return Err(format!("{} is not for TCP", door.section));
    };
    let mut reasons = begin(door, asked);
    let tls = door.service.tls.as_deref();
    if tls.is_some() && !tell_tls(tls, asked.sni.as_deref(), &mut reasons) {
        return Ok(reasons);
    }
    match tell_streams(site, asked, &mut reasons) {
        None => reasons.end = "closed: no route takes it".to_owned(),
        Some(upstream) => {
            reasons.end = format!("goes to upstream {}", upstream.rules.name);
            let key = upstream.stream_key(Some(from(asked)), asked.sni.as_deref());
            reasons.choice = Some(upstream.explain(Affinity { key, ..Affinity::default() }));
            upstream.tell_limits(false, &mut reasons);
            let or_none = |time: Option<_>| time.map_or_else(|| "none".to_owned(), said);
            reasons.limit("idle-timeout", or_none(site.rules.idle_timeout));
            reasons.limit("max-duration", or_none(site.rules.max_duration));
        }
    }
    if reasons.is_turned_away() {
        reasons.end = "turned away at the door".to_owned();
    }
    Ok(reasons)
}

/// Every route of a TCP listener, and the upstream that is found as traffic finds it.
fn tell_streams<'s>(
    site: &'s tcp::Site,
    asked: &Asked,
    into: &mut Reasons,
) -> Option<&'s Arc<Upstream>> {
    let protocols: Vec<_> = asked.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    let name = asked.sni.as_deref();
    let ask = StreamAsk { name, protocols: &protocols, client: Some(from(asked)), shown: None };
    let mut is_found = false;
    for (index, (when, _)) in site.routes.iter().enumerate() {
        let why_not = when.why_not(&ask);
        let taken = why_not.is_none() && !is_found;
        let why = match why_not {
            Some(why_not) => why_not,
            None if taken => "the first whose every condition holds".to_owned(),
            None => "it would take it too, but another comes before it".to_owned(),
        };
        is_found |= taken;
        into.routes.push(RouteRow { route: index + 1, taken, why });
    }
    site.find(&ask).map(|(upstream, _)| upstream)
}

/// The listener that is meant, or why none is: the one that is named, or the only one that fits; of several, the one at this port.
fn chosen<'d>(
    doors: &'d [Door<'d>],
    asked: &Asked,
    (what, port): (&str, Option<u16>),
    fits: impl Fn(&&Door<'_>) -> bool,
) -> Result<&'d Door<'d>, String> {
    let names = |doors: &[&Door<'_>]| {
        let names: Vec<_> = doors.iter().map(|door| door.section.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let fitting: Vec<_> = doors.iter().filter(|door| fits(door)).collect();
    if let Some(wanted) = &asked.listener {
        let is_it = |door: &&&Door<'_>| {
            door.section == *wanted
                || door.section.split_once('.').is_some_and(|(_, n)| n == wanted)
        };
        let found = fitting.iter().find(is_it).copied();
        return found
            .ok_or_else(|| format!("no listener {wanted} {what}; there are: {}", names(&fitting)));
    }
    match fitting[..] {
        [only] => Ok(only),
        [] => {
            let all: Vec<_> = doors.iter().collect();
            Err(format!("no listener {what}; there are: {}", names(&all)))
        }
        _ => {
            let mut at_port =
                fitting.iter().filter(|door| port.is_some_and(|port| door.is_at(port)));
            match (at_port.next(), at_port.next()) {
                (Some(only), None) => Ok(only),
                _ => {
                    let names = names(&fitting);
                    Err(format!("several listeners fit, say which with --listener: {names}"))
                }
            }
        }
    }
}

impl Door<'_> {
    fn is_at(&self, port: u16) -> bool {
        let end = format!(":{port}");
        self.addresses.iter().any(|address| address.ends_with(&end))
    }
}

/// What the door says of the client, before anything is read.
fn begin(door: &Door<'_>, asked: &Asked) -> Reasons {
    let client = from(asked);
    let mut reasons = Reasons {
        listener: door.section.clone(),
        addresses: door.addresses.clone(),
        client: client.to_string(),
        ..Reasons::default()
    };
    if door.service.proxied.is_some() {
        let what = "a proxy in front says who the client is: taken to be this one";
        reasons.gate("accept-proxy", what, None);
    }
    door.service.door.explain(client, |key, what, passes| reasons.gate(key, what, passes));
    reasons
}

/// What a handshake would come to; false if there is none.
fn tell_tls(tls: Option<&Acceptor>, name: Option<&str>, into: &mut Reasons) -> bool {
    let shows = tls.and_then(|tls| tls.would_show(name));
    let name = name.map(str::to_owned);
    let Some((shown, auth)) = shows else {
        into.tls = Some(TlsReasons { name, ..TlsReasons::default() });
        into.end = "refused in the handshake: there is no certificate for this name".to_owned();
        return false;
    };
    let shown = shown.unwrap_or_default();
    let client_auth = match auth {
        Auth::Off => "off",
        Auth::Optional => "optional",
        Auth::Required => "required",
    };
    if auth == Auth::Required {
        into.gate("client-auth", "a certificate of the client is demanded", None);
    }
    into.tls = Some(TlsReasons {
        name,
        certificate: Some(shown.subject).filter(|subject| !subject.is_empty()),
        names: shown.names,
        client_auth: client_auth.to_owned(),
    });
    true
}

/// The head of the request, as a client would send it.
fn head(asked: &Asked, authority: &str, uri: &Uri) -> Result<Vec<u8>, String> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let method = asked.method.as_deref().unwrap_or("GET");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let names_host = |line: &String| line.to_ascii_lowercase().starts_with("host:");
    if !asked.headers.iter().any(names_host) {
        head += &format!("Host: {host}\r\n");
    }
    for line in &asked.headers {
        if !line.contains(':') || line.contains(['\r', '\n']) {
            return Err(format!("{line:?} is no header: write 'Name: value'"));
        }
        head += line;
        head += "\r\n";
    }
    head += "\r\n";
    Ok(head.into_bytes())
}

/// An address is no name, and no client asks for one.
fn is_name(host: &str) -> bool {
    !host.starts_with('[') && host.parse::<IpAddr>().is_err()
}

fn from(asked: &Asked) -> IpAddr {
    asked.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn peer(asked: &Asked) -> ClientAddress {
    ClientAddress::Ip((from(asked), 0).into())
}
