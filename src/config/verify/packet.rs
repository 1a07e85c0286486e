//! What packets must hold beyond their single values: one way to cut them, sizes that agree, and a balancing that uses them.

use evenkeel_wire::{DELIMITER_MAX, LengthField};

use super::Complaints;
use crate::config::{BalancePer, Bytes, Packet, PacketRetry, Replies, TcpListener};

/// The largest packet that may be allowed: each is held whole.
const LARGEST: Bytes = Bytes::kib(1024 * 1024);

/// More bytes than any header has before its length.
const OFFSET_MAX: u32 = 65_535;

pub(super) fn listener(listener: &TcpListener, complaints: &mut Complaints) {
    let by_packet = listener.balance_per == BalancePer::Packet;
    match &listener.packet {
        Some(packet) => {
            complaints.below(&["packet"], |complaints| self::packet(packet, complaints));
            if !by_packet {
                let advice = "add balance-per = \"packet\", or leave packet out";
                complaints.error(
                    &["packet"],
                    "connections are balanced, and bytes pass as they are",
                    advice,
                );
            }
        }
        None if by_packet => {
            let advice = "say how: packet = { length = \"u32be\" }, for instance";
            complaints.error(&["balance-per"], "nobody knows how packets are cut", advice);
        }
        None => {}
    }
    if !by_packet {
        for (key, is_set) in [
            ("replies", listener.replies != Replies::One),
            ("retry", listener.retry != PacketRetry::Unsent),
            ("match", listener.r#match.is_some()),
            ("ping", listener.ping.is_some()),
            ("error-reply", listener.error_reply.is_some()),
        ] {
            if is_set {
                let advice = "add balance-per = \"packet\", or leave it out";
                complaints.error(&[key], "this is for balancing by packet", advice);
            }
        }
    }
    if let Some(id) = &listener.r#match {
        complaints.below(&["match"], |complaints| {
            complaints.within("size", id.size, 1..=16);
            complaints.within("offset", id.offset, 0..=OFFSET_MAX);
        });
        if listener.replies == Replies::None {
            let advice = "leave it out";
            complaints.error(&["match"], "there are no replies to match", advice);
        }
    }
    if listener.error_reply.is_some()
        && (listener.r#match.is_some() || listener.replies == Replies::None)
    {
        let advice = "leave it out: the connection ends instead";
        complaints.error(
            &["error-reply"],
            "only a reply in its turn is known for what it is",
            advice,
        );
    }
    for (key, most) in [
        ("in-flight-max", listener.in_flight_max),
        ("backend-in-flight-max", listener.backend_in_flight_max),
    ] {
        if most == 0 {
            complaints.error(&[key], "nothing would ever pass", "write 1 for one after the other");
        }
    }
}

fn packet(packet: &Packet, complaints: &mut Complaints) {
    let ways = [packet.protocol.is_some(), packet.length.is_some(), packet.end.is_some()];
    if ways.into_iter().filter(|is_set| *is_set).count() != 1 {
        let advice = "write one of protocol, length and end";
        complaints.error(&[], "packets are cut in one way", advice);
    }
    if packet.length.is_none() {
        for (key, is_set) in
            [("offset", packet.offset != 0), ("body-offset", packet.body_offset.is_some())]
        {
            if is_set {
                complaints.error(&[key], "this is for a length field", "add length");
            }
        }
    }
    for (key, offset) in [("offset", Some(packet.offset)), ("body-offset", packet.body_offset)] {
        if offset.is_some_and(|offset| offset > OFFSET_MAX) {
            let message = format!("it may be {OFFSET_MAX} at most");
            complaints.error(&[key], message, "count the bytes of one packet's header");
        }
    }
    if let Some(end) = &packet.end
        && !(1..=DELIMITER_MAX).contains(&end.0.len())
    {
        let message = format!("an end has 1 to {DELIMITER_MAX} bytes");
        complaints.error(&["end"], message, "write \"\\r\\n\", or \"hex:0d0a\"");
    }
    let header = header(packet);
    for (key, most) in [("max", Some(packet.max)), ("reply-max", packet.reply_max)] {
        let Some(most) = most else { continue };
        if most < Bytes(header) || most > LARGEST {
            let message = format!("{most} is not between {} and {LARGEST}", Bytes(header));
            let advice = "the header or the end of a packet counts too";
            complaints.error(&[key], message, advice);
        }
    }
}

/// The smallest packet that has all of what it is cut by.
fn header(packet: &Packet) -> u64 {
    if let Some(length) = &packet.length {
        let field = LengthField {
            kind: length.kind,
            offset: packet.offset as usize,
            body_offset: packet.body_offset.map(|offset| offset as usize),
        };
        let width = field.kind.width().unwrap_or(1);
        return (field.offset + width).max(field.body_offset.unwrap_or_default()) as u64;
    }
    packet.end.as_ref().map_or(2, |end| end.0.len().max(1) as u64)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// What is said of a listener with these lines.
    fn complaint(lines: &str) -> String {
        let text = format!(
            "[upstream.a]\nbackends = [\"127.0.0.1:1\"]\n[tcp.t]\nlisten = \":1\"\nupstream = \"a\"\n{lines}\n"
        );
        Config::parse(&text).map_or_else(|problems| problems.to_string(), |_| String::new())
    }

    fn by_packet(packet: &str) -> String {
        complaint(&format!("packet = {packet}\nbalance-per = \"packet\""))
    }

    #[test]
    fn packets_that_can_be_cut_are_fine() {
        for packet in [
            "\"mqtt\"",
            "\"redis\"",
            "\"lines\"",
            "{ length = \"N\", offset = 0, body-offset = 4, max = 2000000 }",
            "{ length = \"varint\" }",
            "{ length = \"decimal4\", body-offset = 0 }",
            "{ end = \"\\r\\n\" }",
            "{ end = \"hex:00\", max = 1, reply-max = \"1MB\" }",
            "{ protocol = \"redis\", max = \"1MB\" }",
        ] {
            assert_eq!(by_packet(packet), "", "{packet}");
        }
    }

    #[test]
    fn packets_are_cut_in_one_way() {
        for packet in
            ["{}", "{ length = \"N\", end = \"x\" }", "{ protocol = \"mqtt\", length = \"N\" }"]
        {
            assert!(by_packet(packet).contains("packets are cut in one way"), "{packet}");
        }
        for packet in ["{ end = \"x\", offset = 1 }", "{ end = \"x\", body-offset = 1 }"] {
            assert!(by_packet(packet).contains("this is for a length field"), "{packet}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let long = format!("{{ end = \"{}\" }}", "x".repeat(33));
        assert!(by_packet(&long).contains("1 to 32 bytes"));
        assert!(by_packet("{ end = \"\" }").contains("1 to 32 bytes"));
        for packet in [
            "{ length = \"N\", max = 3 }",
            "{ length = \"N\", body-offset = 100, max = 99 }",
            "{ length = \"N\", max = \"2GiB\" }",
            "{ length = \"N\", reply-max = 0 }",
        ] {
            assert!(by_packet(packet).contains("is not between"), "{packet}");
        }
        assert!(by_packet("{ length = \"N\", offset = 70000, max = \"1MB\" }").contains("65535"));
        let near = by_packet("{ length = \"u32eb\" }");
        assert!(near.contains("did you mean \"u32be\"?"), "{near}");
    }

    #[test]
    fn packets_and_their_balancing_belong_together() {
        assert!(complaint("packet = \"mqtt\"").contains("bytes pass as they are"));
        assert!(complaint("balance-per = \"packet\"").contains("how packets are cut"));
        for line in ["replies = \"none\"", "retry = \"idempotent\""] {
            assert!(complaint(line).contains("for balancing by packet"), "{line}");
        }
        let zero = "packet = \"mqtt\"\nbalance-per = \"packet\"\nin-flight-max = 0";
        assert!(complaint(zero).contains("nothing would ever pass"));
    }
}
