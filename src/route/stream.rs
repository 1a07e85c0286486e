//! Which upstream a TCP connection goes to: by the name and the protocols that a TLS client asks for, and by who it is.
//! The same conditions hold whether TLS ends here or only passes through.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Certified, Unmet, any};
use crate::config::HostPattern;
use crate::tls::Shown;

/// The conditions of one route of a TCP listener; an empty list is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamConditions {
    pub(crate) sni: Vec<HostPattern>,
    pub(crate) alpn: Vec<Box<[u8]>>,
    pub(crate) client: Vec<IpNet>,
    pub(crate) certificate: Option<Certified>,
}

/// What is known of a connection when its route is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamAsk<'a> {
    pub(crate) name: Option<&'a str>,
    /// What it offers, or what was agreed on.
    pub(crate) protocols: &'a [Vec<u8>],
    pub(crate) client: Option<IpAddr>,
    pub(crate) shown: Option<&'a Shown>,
}

impl StreamConditions {
    pub(crate) fn hold(&self, ask: &StreamAsk<'_>) -> bool {
        self.unmet(ask).is_none()
    }

    /// The first condition that a connection does not meet.
    pub(super) fn unmet(&self, ask: &StreamAsk<'_>) -> Option<Unmet<'_>> {
        let is_named = |pattern: &HostPattern| match ask.name {
            Some(name) => pattern.matches(name.as_bytes()),
            None => *pattern == HostPattern::Any,
        };
        if !any(&self.sni, is_named) {
            return Some(Unmet::Name);
        }
        if !any(&self.alpn, |wanted| ask.protocols.iter().any(|one| **one == **wanted)) {
            return Some(Unmet::Protocol);
        }
        if !any(&self.client, |net| ask.client.is_some_and(|client| net.contains(&client))) {
            return Some(Unmet::Client);
        }
        match &self.certificate {
            Some(wanted) if !ask.shown.is_some_and(|shown| wanted.is(shown)) => {
                Some(Unmet::Certificate)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_that_is_written_must_hold() {
        let conditions = StreamConditions {
            sni: vec!["a.test".parse().unwrap(), "*.b.test".parse().unwrap()],
            alpn: vec![b"h2"[..].into()],
            client: vec!["192.0.2.0/24".parse().unwrap()],
            certificate: None,
        };
        let protocols = [b"http/1.1".to_vec(), b"h2".to_vec()];
        let client = Some("192.0.2.7".parse().unwrap());
        let good = StreamAsk { name: Some("x.b.test"), protocols: &protocols, client, shown: None };
        assert!(conditions.hold(&good));
        assert!(conditions.hold(&StreamAsk { name: Some("A.test."), ..good }));
        for bad in [
            StreamAsk { name: Some("b.test"), ..good },
            StreamAsk { name: None, ..good },
            StreamAsk { protocols: &protocols[..1], ..good },
            StreamAsk { client: None, ..good },
        ] {
            assert!(!conditions.hold(&bad), "{bad:?}");
        }
        let nothing = StreamAsk { name: None, protocols: &[], client: None, shown: None };
        assert!(StreamConditions::default().hold(&nothing));
        let any = StreamConditions { sni: vec![HostPattern::Any], ..StreamConditions::default() };
        assert!(any.hold(&nothing));
        let certified =
            StreamConditions { certificate: Some(Certified::default()), ..Default::default() };
        assert!(!certified.hold(&nothing));
        assert!(certified.hold(&StreamAsk { shown: Some(&Shown::default()), ..nothing }));
    }
}
