//! What packets must hold beyond their single values: one way to cut them, sizes that agree, and a balancing that uses them.

use evenkeel_wire::{DELIMITER_MAX, LengthField};

use super::Complaints;
use crate::config::problem::shown;
use crate::config::value::Spelled as _;
use crate::config::{
    BalancePer, Bytes, IdleCounts, Packet, PacketProtocol, PacketRetry, Prologue, PrologueVariable,
    Replies, TcpListener,
};

/// The largest packet that may be allowed: each is held whole.
const LARGEST: Bytes = Bytes::kib(1024 * 1024);

/// More bytes than any header has before its length.
const OFFSET_MAX: u32 = 65_535;

pub(super) fn listener(listener: &TcpListener, complaints: &mut Complaints) {
    let by_packet = listener.balance_per == BalancePer::Packet;
    match &listener.packet {
        Some(packet) => {
            complaints.below(&["packet"], |complaints| {
                self::packet(packet, complaints);
                streaming(packet, by_packet, complaints);
            });
            if listener.tls.is_none() && !listener.route.is_empty() {
                let message = "routes without tls pass TLS through, and nobody can cut that";
                complaints.error(&["packet"], message, "add tls, or leave one of them out");
            }
        }
        None => without_packets(listener, complaints),
    }
    if by_packet {
        replies(listener, complaints);
    } else {
        for (key, is_set) in [
            ("replies", listener.replies != Replies::One),
            ("last-reply", listener.last_reply.is_some()),
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
    for (key, most) in [
        ("in-flight-max", listener.in_flight_max),
        ("backend-in-flight-max", listener.backend_in_flight_max),
    ] {
        if most == 0 {
            complaints.error(&[key], "nothing would ever pass", "write 1 for one after the other");
        }
    }
    if let (Some(packet), Some(prologue)) = (&listener.packet, &listener.prologue) {
        self::prologue(packet, prologue, by_packet, complaints);
    }
    if let (Some(packet), true) = (&listener.packet, listener.client_prefix) {
        prefix(packet, complaints);
    }
}

/// What needs to know packets.
fn without_packets(listener: &TcpListener, complaints: &mut Complaints) {
    for (key, is_set) in [
        ("balance-per", listener.balance_per == BalancePer::Packet),
        ("prologue", listener.prologue.is_some()),
        ("client-prefix", listener.client_prefix),
        ("idle-counts", listener.idle_counts == IdleCounts::Packets),
    ] {
        if is_set {
            let advice = "say how: packet = { length = \"u32be\" }, for instance";
            complaints.error(&[key], "nobody knows how packets are cut", advice);
        }
    }
}

fn replies(listener: &TcpListener, complaints: &mut Complaints) {
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
    match (&listener.last_reply, listener.replies) {
        (None, Replies::Many) => {
            let advice = "say what the last has in it: last-reply = \"END\", for instance";
            complaints.error(&["replies"], "nobody knows which reply is the last", advice);
        }
        (Some(_), Replies::One | Replies::None) => {
            let advice = "add replies = \"many\", or leave it out";
            complaints.error(&["last-reply"], "there are not several replies", advice);
        }
        (Some(last), Replies::Many) => complaints.below(&["last-reply"], |complaints| {
            complaints.within("offset", last.offset, 0..=OFFSET_MAX);
            if last.bytes.is_empty() || last.bytes.iter().any(|bytes| bytes.0.is_empty()) {
                let message = "every reply has no bytes at any place";
                complaints.error(&["bytes"], message, "write what only the last one has");
            }
        }),
        (None, _) => {}
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
}

fn streaming(packet: &Packet, by_packet: bool, complaints: &mut Complaints) {
    if !packet.stream_large {
        return;
    }
    if by_packet {
        let advice = "leave it out, or balance-per";
        complaints.error(&["stream-large"], "by packet, each is held until it is whole", advice);
    }
    let is_known_early = packet.length.is_some() || packet.protocol == Some(PacketProtocol::Mqtt);
    if !is_known_early {
        let message = "only a length field says how long a packet is before it is whole";
        complaints.error(&["stream-large"], message, "leave it out");
    }
}

fn prologue(packet: &Packet, prologue: &Prologue, by_packet: bool, complaints: &mut Complaints) {
    if by_packet {
        let message = "connections to backends carry packets of all clients, one after the other";
        let advice = "write client-prefix = true, which is for every packet";
        complaints.error(&["prologue"], message, advice);
    }
    let unknown = |name: &&str| {
        let is_variable = |byte: u8| byte.is_ascii_lowercase() || byte == b'.';
        name.contains('.')
            && name.bytes().all(is_variable)
            && !PrologueVariable::CHOICES.contains(name)
    };
    let names = prologue.body.split('{').skip(1).filter_map(|part| part.split_once('}'));
    if let Some(name) = names.map(|(name, _)| name).find(unknown) {
        let message = format!("\"{{{}}}\" is not a variable here", shown(name));
        let advice = format!("those are {{{}}}", PrologueVariable::CHOICES.join("}, {"));
        complaints.error(&["prologue"], message, advice);
    }
    if packet.length.is_none() && prologue.header.is_some() {
        let advice = "leave header out";
        complaints.error(&["prologue"], "packets without a length have no header", advice);
    }
}

fn prefix(packet: &Packet, complaints: &mut Complaints) {
    let Some(length) = &packet.length else {
        let message = "bytes before a body need a length that counts them";
        complaints.error(&["client-prefix"], message, "leave it out");
        return;
    };
    if packet.stream_large {
        let advice = "leave one of them out";
        complaints.error(&["client-prefix"], "with stream-large, packets are not held", advice);
    }
    if length.kind.width().is_none() && packet.body_offset.is_some_and(|offset| offset > 0) {
        let message = "a header moves whose length has no fixed size";
        complaints.error(&["client-prefix"], message, "leave one of them, or body-offset, out");
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
        assert_eq!(complaint("packet = \"mqtt\""), "");
        assert!(complaint("balance-per = \"packet\"").contains("how packets are cut"));
        for line in ["replies = \"none\"", "retry = \"idempotent\""] {
            assert!(complaint(line).contains("for balancing by packet"), "{line}");
        }
        for line in ["prologue = \"x\"", "client-prefix = true", "idle-counts = \"packets\""] {
            assert!(complaint(line).contains("how packets are cut"), "{line}");
        }
        let routes = "packet = \"mqtt\"\n[[tcp.t.route]]\nupstream = \"a\"\nsni = \"x\"";
        assert!(complaint(routes).contains("nobody can cut that"));
        let zero = "packet = \"mqtt\"\nbalance-per = \"packet\"\nin-flight-max = 0";
        assert!(complaint(zero).contains("nothing would ever pass"));
    }
    #[test]
    fn many_replies_have_a_last_one() {
        let many = |lines: &str| by_packet(&format!("\"lines\"\n{lines}"));
        assert_eq!(many("replies = \"many\"\nlast-reply = [\"END\\r\\n\", \"ERROR\"]"), "");
        assert_eq!(many("replies = \"many\"\nlast-reply = { bytes = \"hex:01\", offset = 4 }"), "");
        assert!(many("replies = \"many\"").contains("which reply is the last"));
        assert!(many("last-reply = \"END\"").contains("not several replies"));
        assert!(many("replies = \"many\"\nlast-reply = \"\"").contains("at any place"));
        assert!(complaint("packet = \"lines\"\nlast-reply = \"x\"").contains("by packet"));
    }

    #[test]
    fn clients_are_told_of_in_ways_that_can_be() {
        let by_connection = |lines: &str| complaint(&format!("packet = {lines}"));
        let json = "prologue = '{\"ip\":\"{client.ip}\"}'";
        assert_eq!(by_connection(&format!("{{ length = \"N\" }}\n{json}")), "");
        assert_eq!(by_connection(&format!("\"lines\"\n{json}")), "");
        let unknown = by_connection("\"lines\"\nprologue = \"{client.name}\"");
        assert!(unknown.contains("\"{client.name}\" is not a variable here"), "{unknown}");
        assert!(by_packet(&format!("\"lines\"\n{json}")).contains("client-prefix = true"));
        let header = "{ end = \"x\" }\n[tcp.t.prologue]\nbody = \"x\"\nheader = \"y\"";
        assert!(by_connection(header).contains("have no header"));
        let prefix = |packet: &str| by_packet(&format!("{packet}\nclient-prefix = true"));
        assert_eq!(prefix("{ length = \"N\" }"), "");
        assert_eq!(prefix("{ length = \"varint\", body-offset = 0 }"), "");
        assert!(prefix("\"mqtt\"").contains("a length that counts them"));
        assert!(prefix("{ length = \"varint\", body-offset = 5 }").contains("a header moves"));
    }

    #[test]
    fn only_what_is_known_early_is_passed_on_early() {
        let large = |cut: &str| complaint(&format!("packet = {{ {cut}, stream-large = true }}"));
        assert_eq!(large("length = \"N\""), "");
        assert_eq!(large("protocol = \"mqtt\""), "");
        assert!(large("end = \"x\"").contains("only a length field"));
        assert!(by_packet("{ length = \"N\", stream-large = true }").contains("until it is whole"));
    }
}
