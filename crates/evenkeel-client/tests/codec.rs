//! The codec for tokio-util: the same packets however the bytes come.

use bytes::{Bytes, BytesMut};
use evenkeel_client::{Framing, PacketCodec, PacketError, PacketRefusal};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

fn framings() -> Vec<Framing> {
    vec![
        Framing::length("u32be").unwrap(),
        Framing::length("u16le").unwrap().offset(3).header(*b"abc__defg").body_offset(0),
        Framing::length("varint").unwrap().body_offset(0),
        Framing::length("decimal").unwrap(),
        Framing::end(b"\x00\x01\x00\x02").unwrap(),
    ]
}

proptest! {
    #[test]
    fn packets_come_out_as_they_went_in_however_they_are_cut(
        bodies in prop::collection::vec(prop::collection::vec(2_u8.., 0..300), 1..8),
        step in 1_usize..50,
        which in 0_usize..5,
    ) {
        let framing = framings().swap_remove(which);
        let (mut codec, mut wire) = (PacketCodec::new(framing), BytesMut::new());
        for body in &bodies {
            codec.encode(body, &mut wire).unwrap();
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(body) = codec.decode(&mut buffer).unwrap() {
                found.push(body);
            }
        }
        prop_assert_eq!(found, bodies);
        prop_assert!(codec.decode_eof(&mut buffer).unwrap().is_none());
    }
}

#[test]
fn the_header_is_what_the_template_says_around_the_length() {
    let framing = Framing::length("u16be").unwrap().offset(2).body_offset(6).header(*b"EK??v1");
    let mut wire = BytesMut::new();
    PacketCodec::new(framing).encode("hello", &mut wire).unwrap();
    assert_eq!(&wire[..], b"EK\x00\x05v1hello");
}

#[test]
fn whole_packets_are_given_and_got_as_they_are() {
    let mut codec = PacketCodec::new(Framing::end(b"\r\n").unwrap().whole());
    let mut wire = BytesMut::new();
    codec.encode("one\r\n", &mut wire).unwrap();
    assert_eq!(codec.decode(&mut wire).unwrap().unwrap(), "one\r\n");
    for wrong in ["one", "one\r\ntwo\r\n", ""] {
        let refused = codec.encode(wrong, &mut wire).unwrap_err();
        assert!(matches!(refused, PacketError::Refused(_)), "{wrong:?}");
    }
    assert!(wire.is_empty(), "nothing of what was refused is there");
}

#[test]
fn an_end_within_a_packet_is_an_error_of_its_own() {
    let mut codec = PacketCodec::new(Framing::lines());
    let mut bytes = BytesMut::from("whole\nha");
    assert_eq!(codec.decode_eof(&mut bytes).unwrap().unwrap(), "whole");
    assert!(matches!(codec.decode_eof(&mut bytes), Err(PacketError::EndedWithin)));
}

#[test]
fn no_more_room_is_made_than_a_packet_may_have() {
    let framing = Framing::length("u32be").unwrap().max(100_000);
    let mut codec = PacketCodec::new(framing);
    let mut bytes = BytesMut::from(&b"\x00\x01\x86\x9c"[..]);
    assert!(codec.decode(&mut bytes).unwrap().is_none());
    assert!((100_000..=100_064).contains(&bytes.capacity()), "{}", bytes.capacity());
    let mut bytes = BytesMut::from(&b"\x00\x01\x86\x9d"[..]);
    let refused =
        PacketCodec::new(Framing::length("u32be").unwrap().max(100_000)).decode(&mut bytes);
    assert!(matches!(refused, Err(PacketError::Refused(PacketRefusal::TooLong))));
    assert!(bytes.capacity() < 64);
}

#[test]
fn replies_may_be_larger_than_what_is_sent() {
    let framing = Framing::lines().max(4).reply_max(10);
    let mut codec = PacketCodec::new(framing);
    assert!(codec.encode("1234", &mut BytesMut::new()).is_err());
    let mut bytes = BytesMut::from("123456789\n");
    assert_eq!(codec.decode(&mut bytes).unwrap(), Some(Bytes::from("123456789")));
}

#[test]
fn redis_sends_commands_and_receives_values() {
    let mut codec = PacketCodec::new(Framing::redis());
    let mut wire = BytesMut::new();
    codec.encode("*1\r\n$4\r\nPING\r\n", &mut wire).unwrap();
    assert!(codec.encode("+PONG\r\n", &mut wire).is_err(), "that is no command");
    let mut bytes = BytesMut::from("+PONG\r\n");
    assert_eq!(codec.decode(&mut bytes).unwrap().unwrap(), "+PONG\r\n");
}

#[test]
fn framing_that_cannot_be_is_named() {
    let said = Framing::length("u24").unwrap_err().to_string();
    assert!(said.contains("`u24`") && said.contains("u32be"), "{said}");
    assert!(Framing::end(b"").is_err());
    assert!(Framing::end(&[0; 33]).is_err());
}
