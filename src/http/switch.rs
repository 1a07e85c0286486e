//! The moment in which both sides agree on another protocol, each in the words of its version: 101 in HTTP/1, an
//! extended CONNECT in HTTP/2 (RFC 8441). From here on it is bytes.

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
        efforts: Efforts,
    ) -> (Next, Told) {
        let told =
            Told { status: Some(self.response.status), ..self.told_of(order, &place, efforts) };
        strip_response(&mut self.response, false);
        self.stream.answer_switch(self.local, &mut self.response);
        (Next::Tunnel { backend: Box::new(backend), place }, told)
    }
}
