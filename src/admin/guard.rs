//! Who may ask over HTTP: no page of another site through somebody's browser, by whichever name it has found us, and over TCP nobody
//! without the token. What is refused here has not been looked at further.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::answer::Answer;
use super::who::Who;
use crate::config::value::token;

/// How long a wrong token is answered later, so that guessing takes its time.
const WRONG_LATER: Duration = Duration::from_millis(250);
/// Sent by whoever means an order: a page of another site cannot, without being asked first.
const MARK: &str = "x-evenkeel";

/// Refuses what a page of another site has a browser send. A page of ours may be navigated to from anywhere.
pub(super) fn of_another_site(head: &Parts, is_page: bool) -> Option<Answer> {
    let word = |name: &str| head.headers.get(name).map(|value| value.as_bytes());
    let site = word("sec-fetch-site");
    let is_ours = site.is_none_or(|site| matches!(site, b"same-origin" | b"none"));
    let is_order = !matches!(head.method, Method::GET | Method::HEAD);
    if !is_ours && (!is_page || is_order) {
        return Some(refused("a page of another site may not ask here"));
    }
    if let Some(origin) = head.headers.get(ORIGIN) {
        let host = host(head).unwrap_or_default();
        let origin = origin.to_str().unwrap_or_default();
        let of_host = |scheme| origin.strip_prefix(scheme).is_some_and(|origin| origin == host);
        if !of_host("http://") && !of_host("https://") {
            return Some(refused("a page of another site may not ask here"));
        }
    }
    let is_browser = site.is_some() || head.headers.contains_key(ORIGIN);
    if is_browser && is_order && word(MARK).is_none() {
        return Some(refused("an order of a browser has to have the header X-Evenkeel"));
    }
    None
}

/// Refuses names that are not ours: whoever owns a name may have it stand for any address.
pub(super) fn by_another_name(head: &Parts, hosts: &[String]) -> Option<Answer> {
    let known = host(head).is_some_and(|host| is_known(host, hosts));
    let said = "this is asked for by localhost, by an address, or by a name of `hosts` in [admin]";
    (!known).then(|| Answer::not(StatusCode::MISDIRECTED_REQUEST, said))
}

/// The host that is asked for; none if there is not exactly one.
fn host(head: &Parts) -> Option<&str> {
    let mut all = head.headers.get_all(HOST).iter();
    let (first, second) = (all.next()?.to_str().ok()?, all.next());
    let in_target = head.uri.authority().is_none_or(|authority| authority.as_str() == first);
    (second.is_none() && in_target).then_some(first)
}

fn is_known(host: &str, hosts: &[String]) -> bool {
    if host.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inside.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is = |known: &str| known.strip_suffix('.').unwrap_or(known).eq_ignore_ascii_case(name);
    is("localhost") || hosts.iter().any(|known| is(known))
}

fn refused(error: &str) -> Answer {
    Answer::not(StatusCode::FORBIDDEN, error)
}

/// The token that whoever asks over TCP must show.
#[derive(Debug)]
pub(super) struct Token {
    file: PathBuf,
    /// What the last good one comes to: the file may be half written at any moment.
    known: Mutex<Digest>,
}

/// Tokens are compared by this, so that neither their bytes nor their length can be found out by the time it takes.
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl Token {
    /// The one of a file, or why there is none.
    pub(super) fn of(file: PathBuf) -> Result<Token, String> {
        let known = Mutex::new(digest_of(&token::read(&file)?));
        Ok(Token { file, known })
    }

    /// Who is asking from this address, or the answer to somebody without the token.
    pub(super) async fn who(
        &self,
        headers: &HeaderMap,
        address: SocketAddr,
    ) -> Result<Who, Answer> {
        let Some(shown) = bearer(headers) else {
            let said = "over TCP, a token has to be shown: Authorization: Bearer TOKEN";
            return Err(unauthorized(said));
        };
        let (shown, known) = (digest_of(shown), self.now());
        if constant_time::verify_slices_are_equal(&shown, &known).is_ok() {
            let mark = known.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            return Ok(Who::Afar { address, token: mark });
        }
        tokio::time::sleep(WRONG_LATER).await;
        tracing::warn!(%address, "admin: a wrong token was shown");
        Err(unauthorized("this is not the token"))
    }

    /// What the token comes to now: another one may have been written.
    fn now(&self) -> Digest {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(token) = token::read(&self.file) {
            *known = digest_of(&token);
        }
        *known
    }
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (all.next()?.to_str().ok()?, all.next());
    let (scheme, token) = first.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && second.is_none()).then(|| token.trim())
}

fn unauthorized(error: &str) -> Answer {
    let answer = Answer::not(StatusCode::UNAUTHORIZED, error);
    answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"evenkeel\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_name_that_anybody_may_point_here_is_refused() {
        let hosts = ["lb.example.com".to_owned()];
        let takes = |host: &str| by_another_name(&head("GET", &[("host", host)]), &hosts).is_none();
        for host in [
            "localhost",
            "LOCALHOST:9900",
            "127.0.0.1:9900",
            "[::1]:9900",
            "[::1]",
            "192.0.2.1",
            "lb.example.com.:80",
        ] {
            assert!(takes(host), "{host}");
        }
        for host in [
            "evil.test",
            "localhost.evil.test",
            "lb.example.com:x",
            "",
            "127.0.0.1.evil.test",
            "[evil]",
        ] {
            assert!(!takes(host), "{host}");
        }
        assert!(by_another_name(&head("GET", &[]), &hosts).is_some());
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert!(by_another_name(&head("GET", &twice), &hosts).is_some());
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_orders_of_ours_say_that_they_are_meant() {
        let takes = |method, more: &[(&str, &str)]| {
            let headers = [&[("host", "localhost:1")], more].concat();
            of_another_site(&head(method, &headers), false).is_none()
        };
        let same = ("sec-fetch-site", "same-origin");
        assert!(takes("GET", &[]) && takes("POST", &[]) && takes("GET", &[same]));
        assert!(takes(
            "POST",
            &[same, ("origin", "http://localhost:1"), ("x-evenkeel", "dashboard")]
        ));
        assert!(!takes("POST", &[same, ("origin", "http://localhost:1")]));
        for site in ["cross-site", "same-site", "anything"] {
            assert!(!takes("GET", &[("sec-fetch-site", site)]), "{site}");
            assert!(!takes("POST", &[("sec-fetch-site", site), ("x-evenkeel", "a")]), "{site}");
        }
        for origin in ["null", "http://evil.test", "http://localhost", "http://localhost:12"] {
            assert!(!takes("POST", &[("origin", origin), ("x-evenkeel", "a")]), "{origin}");
        }
        let linked = head("GET", &[("host", "localhost:1"), ("sec-fetch-site", "cross-site")]);
        assert!(
            of_another_site(&linked, true).is_none() && of_another_site(&linked, false).is_some()
        );
    }
}
