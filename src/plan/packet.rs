//! How packets are balanced, from the words of the config.

use evenkeel_wire::{LengthField, PacketCut, Packets};

use crate::config::{self, BalancePer, PacketPart, PacketProtocol, PacketRetry, Replies};
use crate::tcp::packets::PacketRules;
use crate::upstream::key::Part;

/// What a listener does with packets; none where it balances connections.
pub(super) fn rules(listener: &config::TcpListener) -> Option<PacketRules> {
    let packet = listener.packet.as_ref()?;
    if listener.balance_per != BalancePer::Packet {
        return None;
    }
    let size = |bytes: config::Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
    let cut = cut(packet)?;
    let asked = match cut {
        PacketCut::Redis => PacketCut::RedisCommands,
        _ => cut.clone(),
    };
    let reply_max = size(packet.reply_max.unwrap_or(packet.max));
    Some(PacketRules {
        replies: Packets { cut, max: reply_max },
        packets: Packets { cut: asked, max: size(packet.max) },
        replied: listener.replies == Replies::One,
        ping: listener.ping.as_ref().map(|ping| (ping.packet.0.clone(), ping.reply.0.clone())),
        error_reply: listener.error_reply.as_ref().map(|reply| reply.0.clone()),
        in_flight_max: listener.in_flight_max as usize,
        pipeline_max: listener.backend_in_flight_max as usize,
        matching: listener
            .r#match
            .as_ref()
            .map(|id| Part { offset: id.offset as usize, size: id.size as usize }),
        idempotent: listener.retry == PacketRetry::Idempotent,
    })
}

/// Some bytes of each packet.
pub(super) fn part(part: PacketPart) -> Part {
    let size = part.size.map_or(usize::MAX, |size| size as usize);
    Part { offset: part.offset as usize, size }
}

pub(crate) fn cut(packet: &config::Packet) -> Option<PacketCut> {
    let by_end = |end: &[u8]| PacketCut::End(end.to_vec());
    match packet.protocol {
        Some(PacketProtocol::Mqtt) => return Some(PacketCut::Mqtt),
        Some(PacketProtocol::Redis) => return Some(PacketCut::Redis),
        Some(PacketProtocol::Lines) => return Some(by_end(b"\n")),
        None => {}
    }
    if let Some(end) = &packet.end {
        return Some(by_end(&end.0));
    }
    packet.length.as_ref().map(|length| {
        PacketCut::Length(LengthField {
            kind: length.kind,
            offset: packet.offset as usize,
            body_offset: packet.body_offset.map(|offset| offset as usize),
        })
    })
}
