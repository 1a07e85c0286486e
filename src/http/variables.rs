//! What the variables of a template mean for the request at hand. A client chooses many of these values, so whatever
//! could end a field or begin another one is taken out here, and a template is never read a second time.

use std::borrow::Cow;
use std::net::SocketAddr;

use evenkeel_wire::{Fields, Known};

use super::Edits;
use super::key::cookie;
use super::session::{Session, host_of, path_end};
use crate::config::{Part, Placeholder, Template, Variable};
use crate::observe::ended::ClientAddress;

/// What a route changes in the fields of one message, with its values filled in.
#[derive(Debug)]
pub(super) struct Changes<'e> {
    edits: &'e Edits,
    set: Vec<(&'e [u8], Vec<u8>)>,
    add: Vec<(&'e [u8], Vec<u8>)>,
}

impl Changes<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.edits.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Takes away, sets, adds, in this order.
    pub(super) fn apply(&self, fields: &mut Fields) {
        self.edits.remove.iter().for_each(|name| remove_alike(fields, name));
        for (name, value) in &self.set {
            remove_alike(fields, name);
            fields.push(name, value);
        }
        self.add.iter().for_each(|(name, value)| fields.push(name, value));
    }
}

impl Session<'_> {
    /// What a route changes, for this request.
    pub(super) fn changes<'e>(&self, edits: &'e Edits) -> Changes<'e> {
        let filled = |list: &'e [(Box<[u8]>, Template)]| {
            list.iter()
                .map(|(name, template)| (&**name, field_value(self.fill(template))))
                .collect()
        };
        Changes { edits, set: filled(&edits.set), add: filled(&edits.add) }
    }

    /// The text of a template for this request, as bytes that a client may have chosen.
    pub(super) fn fill(&self, template: &Template) -> Vec<u8> {
        let mut text = Vec::new();
        let request = &self.request;
        for part in &template.parts {
            match part {
                Part::Text(plain) => text.extend_from_slice(plain.as_bytes()),
                Part::Variable(Placeholder::Variable(variable)) => {
                    self.put_value(*variable, &mut text);
                }
                Part::Variable(Placeholder::Header(name))
                    if Known::of(name.as_bytes()) == Known::Host =>
                {
                    text.extend_from_slice(&request.authority);
                }
                Part::Variable(Placeholder::Header(name)) => {
                    let values: Vec<_> = request.fields.named(name.as_bytes()).collect();
                    text.extend(values.join(&b", "[..]));
                }
                Part::Variable(Placeholder::Cookie(name)) => {
                    let value = cookie(request, name.as_bytes());
                    text.extend_from_slice(value.unwrap_or_default());
                }
            }
        }
        text
    }

    fn put_value(&self, variable: Variable, text: &mut Vec<u8>) {
        let target = &self.request.target;
        let end = path_end(target);
        let (port, said);
        text.extend_from_slice(match variable {
            Variable::ClientIp => self.caller.ip.as_bytes(),
            Variable::ClientPort => {
                port = port_of(self.caller.address);
                port.as_bytes()
            }
            Variable::Host => host_of(&self.request.authority),
            Variable::Listener => self.site.listener.as_bytes(),
            Variable::Method => self.request.method.as_bytes(),
            Variable::Path => &target[..end],
            Variable::Query => target.get(end + 1..).unwrap_or_default(),
            Variable::RequestId => self.request_id.as_bytes(),
            Variable::Scheme => self.scheme().as_bytes(),
            Variable::Uri => target,
            Variable::ClientSubject
            | Variable::ClientIssuer
            | Variable::ClientFingerprint
            | Variable::ClientSerial
            | Variable::ClientNames => {
                said = self.of_certificate(variable);
                said.as_bytes()
            }
            Variable::User => self.caller.user.as_deref().unwrap_or_default().as_bytes(),
            // These stand for parts of a template of their own kind.
            Variable::Rest | Variable::Header | Variable::Cookie => b"",
        });
    }
}

impl Session<'_> {
    /// What the client's certificate says; nothing where it has shown none.
    fn of_certificate(&self, variable: Variable) -> Cow<'_, str> {
        let Some(shown) = self.caller.shown() else { return Cow::Borrowed("") };
        match variable {
            Variable::ClientSubject => Cow::Borrowed(&shown.subject),
            Variable::ClientIssuer => Cow::Borrowed(&shown.issuer),
            Variable::ClientFingerprint => Cow::Borrowed(&shown.fingerprint),
            Variable::ClientSerial => Cow::Borrowed(&shown.serial),
            _ => Cow::Owned(shown.names_in_one_line()),
        }
    }
}

fn port_of(address: ClientAddress) -> String {
    match address {
        ClientAddress::Ip(SocketAddr::V4(address)) => address.port().to_string(),
        ClientAddress::Ip(SocketAddr::V6(address)) => address.port().to_string(),
        ClientAddress::Told(_) | ClientAddress::Unix => String::new(),
    }
}

/// Bytes as the value of a field: without control characters, and without space at either end.
fn field_value(bytes: Vec<u8>) -> Vec<u8> {
    if evenkeel_wire::is_value(&bytes) {
        return bytes;
    }
    let mut bytes = bytes;
    bytes.retain(|byte| !byte.is_ascii_control() || *byte == b'\t');
    bytes.trim_ascii().to_vec()
}

/// Takes out every field of this name, and of those that some servers read as the same: where fields become variables
/// of a program, `X_User` is `X-User` (RFC 3875 4.1.18).
pub(super) fn remove_alike(fields: &mut Fields, name: &[u8]) {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let is_alike = |other: &[u8]| {
        other.len() == name.len() && other.iter().map(plain).eq(name.iter().map(plain))
    };
    fields.retain(|field| !is_alike(field.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_field_gets_out() {
        let value = |text: &str| String::from_utf8(field_value(text.into())).unwrap();
        assert_eq!(value("a\r\nX-Admin: 1\0"), "aX-Admin: 1");
        assert_eq!(value(" \t a \u{7f}\u{1b}[31mé "), "a [31mé");
    }

    #[test]
    fn look_alikes_of_a_header_go_with_it() {
        let mut fields = Fields::default();
        let names = ["X-Auth-User", "x_auth_user", "X-AUTH_USER", "X-Auth-Users", "X-Auth"];
        names.iter().for_each(|name| fields.push(name.as_bytes(), b"1"));
        remove_alike(&mut fields, b"x-auth-user");
        let left: Vec<_> = fields.iter().map(|field| field.name).collect();
        assert_eq!(left, [&b"X-Auth-Users"[..], b"X-Auth"]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_chose_becomes_the_value_of_a_field(bytes: Vec<u8>) {
            proptest::prop_assert!(evenkeel_wire::is_value(&field_value(bytes)));
        }
    }
}
