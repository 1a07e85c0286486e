//! What an OCSP answer says (RFC 6960 4.2.1): about which certificate, whether it is good, and until when.
//! Its signature is for clients to check; we only make sure not to show one that they would refuse.

use x509_parser::der_parser::asn1_rs::{
    Any, Class, FromDer, GeneralizedTime, Integer, Sequence, Tag,
};

/// What we look at of an answer about one certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) serial: Vec<u8>,
    pub(super) is_good: bool,
    /// Seconds since 1970; none where it is valid for as long as there is no newer one.
    pub(super) until: Option<i64>,
}

const NOT_OCSP: &str = "it is no OCSP answer in DER";

/// Reads an answer; none if it is about no certificate.
pub(super) fn read(der: &[u8]) -> Result<Option<Answer>, &'static str> {
    // OCSPResponse: its status, then in [0] the kind of answer and the answer itself as an octet string.
    let (_, response) = Sequence::from_der(der).map_err(|_| NOT_OCSP)?;
    let (rest, status) = Any::from_der(&response.content).map_err(|_| NOT_OCSP)?;
    if status.tag() != Tag::Enumerated || status.data != [0] {
        return Err("the authority gave no answer, but an error");
    }
    let basic = tagged(rest, 0).and_then(sequence).and_then(|bytes| nth(bytes, 1));
    let basic = basic.filter(|octets| octets.tag() == Tag::OctetString).ok_or(NOT_OCSP)?;
    // BasicOCSPResponse, and in it ResponseData: [0] version, [1] or [2] who answers, when, and the answers.
    let data = sequence(basic.data).and_then(sequence).ok_or(NOT_OCSP)?;
    let mut rest = data;
    let answers = loop {
        let (after, element) = Any::from_der(rest).map_err(|_| NOT_OCSP)?;
        if element.class() == Class::Universal && element.tag() == Tag::Sequence {
            break element;
        }
        rest = after;
    };
    if answers.data.is_empty() {
        return Ok(None);
    }
    sequence(answers.data).and_then(answer).map(Some).ok_or(NOT_OCSP)
}

/// SingleResponse: which certificate, [0] good or another status, since when, and in [0] until when.
fn answer(single: &[u8]) -> Option<Answer> {
    let (rest, id) = Sequence::from_der(single).ok()?;
    let (_, serial) = Integer::from_der(nth_rest(&id.content, 3)?).ok()?;
    let (rest, status) = Any::from_der(rest).ok()?;
    let (rest, _since) = GeneralizedTime::from_der(rest).ok()?;
    let until = tagged(rest, 0).and_then(|time| GeneralizedTime::from_der(time).ok());
    let until = until.and_then(|(_, time)| time.utc_datetime().ok());
    Some(Answer {
        serial: serial.as_ref().to_vec(),
        is_good: status.class() == Class::ContextSpecific && status.tag().0 == 0,
        until: until.map(|time| time.unix_timestamp()),
    })
}

fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (_, any) = Any::from_der(der).ok()?;
    (any.tag() == Tag::Sequence).then_some(any.data)
}

/// What stands in an explicit tag.
fn tagged(der: &[u8], number: u32) -> Option<&[u8]> {
    let (_, any) = Any::from_der(der).ok()?;
    (any.class() == Class::ContextSpecific && any.tag().0 == number).then_some(any.data)
}

fn nth(bytes: &[u8], index: usize) -> Option<Any<'_>> {
    Any::from_der(nth_rest(bytes, index)?).ok().map(|(_, any)| any)
}

/// What is left after so many elements.
fn nth_rest(bytes: &[u8], skip: usize) -> Option<&[u8]> {
    (0..skip).try_fold(bytes, |rest, _| Any::from_der(rest).ok().map(|(rest, _)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn anything_can_be_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
