//! The moment in which both sides agree on another protocol, each in the words of its version: 101 in HTTP/1, an
//! extended CONNECT in HTTP/2 (RFC 8441). From here on it is bytes.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::forward::Order;
use super::headers::strip_response;
use super::record::Told;
use super::session::{Next, Session};
use super::stream::Stream;
use crate::upstream::InFlight;
use crate::upstream::connect::Efforts;

impl Session<'_> {
    /// Tells the client, and hands over the backend.
    pub(super) fn switch(
        &mut self,
        backend: Stream,
        order: &Order<'_>,
        place: InFlight,
        (efforts, upgrade): (Efforts, Option<&[u8]>),
    ) -> (Next, Told) {
        let told =
            Told { status: Some(self.response.status), ..self.told_of(order, &place, efforts) };
        strip_response(&mut self.response, false);
        if let (Stream::H1(_), Stream::H2(_), Some(protocol)) = (&self.stream, &backend, upgrade) {
            self.say_as_http1(protocol);
        }
        self.stream.answer_switch(self.local, &mut self.response);
        (Next::Tunnel { backend: Box::new(backend), place }, told)
    }

    /// What HTTP/2 says by success alone: the protocol, and for WebSocket the proof that it was understood.
    fn say_as_http1(&mut self, protocol: &[u8]) {
        let fields = &mut self.response.fields;
        fields.set(b"Upgrade", protocol);
        let key = self.request.fields.named(b"sec-websocket-key").next();
        if let Some(key) = key.filter(|_| protocol.eq_ignore_ascii_case(b"websocket")) {
            fields.set(b"Sec-WebSocket-Accept", accept(key).as_bytes());
        }
    }
}

/// The answer to the key of a WebSocket handshake (RFC 6455 4.2.2).
fn accept(key: &[u8]) -> String {
    const ALL_SERVERS: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, ALL_SERVERS].concat());
    BASE64_STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
