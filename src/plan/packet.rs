//! How packets are balanced, from the words of the config.

use evenkeel_wire::{LengthField, PacketCut, Packets};

use crate::config::value::{self, PrologueVariable};
use crate::config::{
    self, BalancePer, IdleCounts, PacketPart, PacketProtocol, PacketRetry, Replies,
};
use crate::tcp::packets::who::{Piece, Prologue};
use crate::tcp::packets::whole::WholeRules;
use crate::tcp::packets::{Framed, LastReply, PacketRules, Reply};
use crate::upstream::key::Part;

/// What a listener does with packets; nothing where it does not know them.
pub(super) fn framed(listener: &config::TcpListener) -> Option<Framed> {
    let packet = listener.packet.as_ref()?;
    let size = |bytes: config::Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
    let cut = cut(packet)?;
    let by_packet = listener.balance_per == BalancePer::Packet;
    let asked = match cut {
        // What Redis would not answer once can only be passed by connection.
        PacketCut::Redis if by_packet => PacketCut::RedisCommands,
        _ => cut.clone(),
    };
    let replies = Packets { cut, max: size(packet.reply_max.unwrap_or(packet.max)) };
    let packets = Packets { cut: asked, max: size(packet.max) };
    let idle_by_packet = listener.idle_counts == IdleCounts::Packets;
    if !by_packet {
        return Some(Framed::ByConnection(WholeRules {
            packets,
            replies,
            stream_large: packet.stream_large,
            prefixed: listener.client_prefix,
            prologue: listener.prologue.as_ref().map(prologue),
            idle_by_packet,
        }));
    }
    let bytes = |bytes: &config::Bytestring| bytes.0.clone();
    Some(Framed::ByPacket(PacketRules {
        replies,
        packets,
        reply: match listener.replies {
            Replies::None => Reply::Never,
            Replies::One => Reply::Once,
            Replies::Many => {
                Reply::Until(listener.last_reply.as_ref().map_or_else(LastReply::default, |last| {
                    LastReply {
                        offset: last.offset as usize,
                        bytes: last.bytes.iter().map(bytes).collect(),
                    }
                }))
            }
        },
        ping: listener.ping.as_ref().map(|ping| (bytes(&ping.packet), bytes(&ping.reply))),
        error_reply: listener.error_reply.as_ref().map(bytes),
        in_flight_max: listener.in_flight_max as usize,
        pipeline_max: listener.backend_in_flight_max as usize,
        matching: listener
            .r#match
            .as_ref()
            .map(|id| Part { offset: id.offset as usize, size: id.size as usize }),
        idempotent: listener.retry == PacketRetry::Idempotent,
        prefixed: listener.client_prefix,
        idle_by_packet,
    }))
}

fn prologue(prologue: &config::Prologue) -> Prologue {
    let piece = |part: value::Part<PrologueVariable>| match part {
        value::Part::Text(text) => Piece::Text(text),
        value::Part::Variable(PrologueVariable::ClientIp) => Piece::ClientIp,
        value::Part::Variable(PrologueVariable::ClientPort) => Piece::ClientPort,
        value::Part::Variable(PrologueVariable::ConnectionId) => Piece::ConnectionId,
    };
    let template = value::read_among_braces(&prologue.body);
    Prologue {
        body: template.parts.into_iter().map(piece).collect(),
        header: prologue.header.as_ref().map(|header| header.0.clone()).unwrap_or_default(),
    }
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
