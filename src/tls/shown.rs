//! What a client's certificate says, as text that routes, headers and the log can hold against something. Whoever made
//! the certificate chose that text: it is written so that no value can pass for a name beside it (RFC 4514 2.4).

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::x509::AttributeTypeAndValue;

/// A certificate that a client has shown, and that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shown {
    /// Whom it is for, as RFC 4514 writes it: `CN=device-1,O=Example`.
    pub(crate) subject: String,
    /// The common name among that, as it stands in the certificate.
    pub(crate) cn: Option<String>,
    /// Who vouches for it, written in the same way.
    pub(crate) issuer: String,
    /// The SHA-256 of the whole certificate, in hexadecimal.
    pub(crate) fingerprint: String,
    /// Its number with whoever vouches for it, in hexadecimal.
    pub(crate) serial: String,
    /// Its further names: of hosts, people, services, and addresses.
    pub(crate) names: Vec<String>,
}

impl Shown {
    /// The further names as one text. A comma in a name is written as `\\,`, so that it stays one.
    pub(crate) fn names_in_one_line(&self) -> String {
        let escaped = self.names.iter().map(|name| name.replace('\\', "\\\\").replace(',', "\\,"));
        escaped.collect::<Vec<_>>().join(",")
    }

    /// None where it cannot be read, which no certificate that was taken is.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Shown> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Shown {
            subject: distinguished(parsed.subject()),
            cn: cn(parsed.subject()),
            issuer: distinguished(parsed.issuer()),
            fingerprint: hex(&fingerprint(certificate)),
            serial: hex(parsed.raw_serial()),
            names: names(&parsed),
        })
    }
}

/// The SHA-256 of a whole certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The names of hosts that a certificate is for.
pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    general_names(certificate)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    general_names(certificate)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some((*name).to_owned())
            }
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|v4| std::net::IpAddr::from(v4).to_string()),
                _ => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|v6| std::net::IpAddr::from(v6).to_string()),
            },
            _ => None,
        })
        .collect()
}

fn general_names<'c>(
    certificate: &'c X509Certificate<'_>,
) -> impl Iterator<Item = &'c GeneralName<'c>> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    alternatives.into_iter().flat_map(|names| &names.value.general_names)
}

fn cn(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
}

/// A name of X.509 as RFC 4514 writes it: the last part first.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter().collect();
    for (index, part) in parts.into_iter().rev().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok(word) => text.push_str(word),
        Err(_) => {
            let _ = write!(text, "{}", attribute.attr_type());
        }
    }
    text.push('=');
    // What is no text is written as its bytes (RFC 4514 2.4).
    match attribute.as_str() {
        Ok(value) => write_escaped(text, value),
        Err(_) if attribute.attr_value().tag() == Tag::BmpString => {
            let units = attribute.attr_value().data.chunks_exact(2);
            let units: Vec<_> = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            write_escaped(text, &String::from_utf16_lossy(&units));
        }
        Err(_) => {
            text.push('#');
            text.push_str(&hex(attribute.attr_value().data));
        }
    }
}

fn write_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                text.push('\\');
                text.push(character);
            }
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            control if control.is_control() => {
                for byte in control.to_string().bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            other => text.push(other),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn shown(change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Shown::of(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_name_is_written_last_part_first_with_its_further_names() {
        let shown = shown(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, "device-1");
            params.subject_alt_names.push(SanType::IpAddress("192.0.2.1".parse().unwrap()));
            params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
        });
        assert_eq!(shown.subject, "CN=device-1,O=Example");
        assert_eq!(shown.issuer, shown.subject);
        assert_eq!(shown.names, ["a.test", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(shown.fingerprint.len(), 64);
    }

    #[test]
    fn no_value_passes_for_a_name_beside_it() {
        let evil = " x,O=Bank+OU=a\\\"<;>#\r\n";
        let shown = shown(|params| params.distinguished_name.push(DnType::CommonName, evil));
        assert_eq!(shown.subject, "CN=\\ x\\,O\\=Bank\\+OU\\=a\\\\\\\"\\<\\;\\>#\\0d\\0a");
    }
}
