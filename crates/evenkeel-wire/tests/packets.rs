//! Where packets end, however they come.

use evenkeel_wire::{
    LengthField, LengthKind, PacketCut, PacketProgress, PacketRead, PacketRefusal, Packets,
};
use proptest::prelude::*;

fn by_length(kind: &str, offset: usize, body_offset: Option<usize>, max: usize) -> Packets {
    let kind = LengthKind::named(kind).unwrap();
    Packets { cut: PacketCut::Length(LengthField { kind, offset, body_offset }), max }
}

fn by_end(end: &str, max: usize) -> Packets {
    Packets { cut: PacketCut::End(end.as_bytes().to_vec()), max }
}

/// What is found of bytes that are there at once.
fn read(packets: &Packets, bytes: &[u8]) -> Result<PacketRead, PacketRefusal> {
    packets.read(bytes, &mut PacketProgress::default())
}

fn whole(length: usize) -> Result<PacketRead, PacketRefusal> {
    Ok(PacketRead::Whole { length })
}

fn wants(total: usize) -> Result<PacketRead, PacketRefusal> {
    Ok(PacketRead::Partial { total: Some(total) })
}

const UNKNOWN: Result<PacketRead, PacketRefusal> = Ok(PacketRead::Partial { total: None });

/// Cuts a stream that comes in pieces of these sizes, again and again.
fn cut_all(
    packets: &Packets,
    stream: &[u8],
    sizes: &[usize],
) -> Result<Vec<Vec<u8>>, PacketRefusal> {
    let (mut found, mut progress) = (Vec::new(), PacketProgress::default());
    let (mut from, mut come) = (0, 0);
    for size in sizes.iter().cycle() {
        come = stream.len().min(come + size);
        while let PacketRead::Whole { length } = packets.read(&stream[from..come], &mut progress)? {
            found.push(stream[from..from + length].to_vec());
            from += length;
            if from == come {
                break;
            }
        }
        if come == stream.len() {
            assert_eq!(from, come, "something is left");
            return Ok(found);
        }
    }
    unreachable!("sizes are given")
}

#[test]
fn every_kind_of_length_is_read_with_its_sign_and_order() {
    let cases: [(&str, &[u8], u64); 22] = [
        ("u8", &[200], 200),
        ("i8", &[100], 100),
        ("u16be", &[1, 2], 258),
        ("u16le", &[2, 1], 258),
        ("i16be", &[1, 2], 258),
        ("i16le", &[2, 1], 258),
        ("u32be", &[0, 0, 1, 2], 258),
        ("u32le", &[2, 1, 0, 0], 258),
        ("i32be", &[0, 0, 1, 2], 258),
        ("i32le", &[2, 1, 0, 0], 258),
        ("u64be", &[0, 0, 0, 0, 0, 0, 1, 2], 258),
        ("u64le", &[2, 1, 0, 0, 0, 0, 0, 0], 258),
        ("i64be", &[0, 0, 0, 0, 0, 0, 1, 2], 258),
        ("i64le", &[2, 1, 0, 0, 0, 0, 0, 0], 258),
        ("varint", &[0x82, 2], 258),
        ("decimal", b"258:", 258),
        ("decimal4", b"0258", 258),
        ("n", &[1, 2], 258),
        ("v", &[2, 1], 258),
        ("N", &[0, 0, 1, 2], 258),
        ("J", &[0, 0, 0, 0, 0, 0, 1, 2], 258),
        ("P", &[2, 1, 0, 0, 0, 0, 0, 0], 258),
    ];
    for (kind, field, value) in cases {
        let packets = by_length(kind, 0, None, 1000);
        assert_eq!(read(&packets, field), wants(field.len() + value as usize), "{kind}");
        for cut in 0..field.len() {
            assert_eq!(read(&packets, &field[..cut]), UNKNOWN, "{kind} after {cut}");
        }
    }
}

#[test]
fn native_names_and_letters_are_those_of_this_machine() {
    let native = |kinds: &[&str], field: &[u8]| {
        for kind in kinds {
            let packets = by_length(kind, 0, None, 1000);
            assert_eq!(read(&packets, field), wants(field.len() + 258), "{kind}");
        }
    };
    native(&["u16", "i16", "s", "S"], &258_u16.to_ne_bytes());
    native(&["u32", "i32", "l", "L"], &258_u32.to_ne_bytes());
    native(&["u64", "i64", "q", "Q"], &258_u64.to_ne_bytes());
    let letters = "cCsSnvlLNVqQJP";
    assert!(letters.chars().all(|letter| LengthKind::named(&letter.to_string()).is_some()));
    for unknown in ["i", "I", "u24", "", "decimal0", "decimal19", "decimal-1"] {
        assert_eq!(LengthKind::named(unknown), None, "{unknown}");
    }
}

#[test]
fn a_negative_length_is_refused_in_every_signed_kind_and_only_there() {
    for (kind, bytes) in [("i8", 1), ("i16be", 2), ("i32le", 4), ("i64be", 8), ("c", 1), ("q", 8)] {
        let field = vec![0xff; bytes];
        assert_eq!(read(&by_length(kind, 0, None, 1000), &field), Err(PacketRefusal::Negative));
    }
    for (kind, bytes) in [("u8", 1), ("u16be", 2), ("u32le", 4), ("u64be", 8)] {
        let field = vec![0xff; bytes];
        assert_eq!(read(&by_length(kind, 0, None, 100), &field), Err(PacketRefusal::TooLong));
    }
}

#[test]
fn the_largest_packet_is_allowed_and_one_byte_more_is_refused_by_its_header() {
    // As Swoole has it: N, 0, 4, 2000000.
    let packets = by_length("N", 0, Some(4), 2_000_000);
    assert_eq!(read(&packets, &[0, 0x1e, 0x84, 0x7c]), wants(2_000_000));
    for header in [[0, 0x1e, 0x84, 0x7d], [0, 0x1e, 0x84, 0x81], [0xff; 4]] {
        assert_eq!(read(&packets, &header), Err(PacketRefusal::TooLong), "{header:?}");
        assert_eq!(read(&packets, &header[..3]), UNKNOWN);
    }
    assert_eq!(read(&packets, &[0; 4]), whole(4));
}

#[test]
fn a_length_that_counts_its_header_may_not_end_within_it() {
    let packets = by_length("u32be", 0, Some(0), 100);
    assert_eq!(read(&packets, b"\0\0\0\x09hello"), whole(9));
    assert_eq!(read(&packets, b"\0\0\0\x04"), whole(4));
    assert_eq!(read(&packets, b"\0\0\0\x02"), Err(PacketRefusal::ShorterThanHeader));
    assert_eq!(read(&packets, b"\0\0\0\0"), Err(PacketRefusal::Empty));
    // Two bytes of magic first.
    let packets = by_length("u32be", 2, Some(6), 100);
    assert_eq!(read(&packets, b"MG\0\0\0\x03abc"), whole(9));
    assert_eq!(read(&packets, b"MG\0\0\0"), UNKNOWN);
}

#[test]
fn lengths_that_lie_are_refused_without_wanting_more() {
    for (kind, field) in [
        ("varint", &[0xff; 10][..]),
        ("varint", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f]),
        ("decimal", b"123456789012345678901"),
        ("decimal", b"18446744073709551616:"),
        ("decimal", b":"),
        ("decimal4", b"01x"),
        ("u64be", &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert!(read(&by_length(kind, 0, None, 100), field).is_err(), "{kind} {field:?}");
    }
    // The value and what it does not count, together.
    let packets = by_length("u64be", 0, Some(65_535), usize::MAX);
    assert_eq!(read(&packets, &[0xff; 8]), Err(PacketRefusal::TooLong));
}

#[test]
fn a_delimiter_is_found_wherever_it_is_cut_and_belongs_to_its_packet() {
    let packets = by_end("\r\n\r\n", 100);
    let stream = b"a\r\nb\r\n\r\n\r\n\r\nlast\r\r\n\r\n";
    let parts: [&[u8]; 3] = [b"a\r\nb\r\n\r\n", b"\r\n\r\n", b"last\r\r\n\r\n"];
    for size in 1..=stream.len() {
        assert_eq!(cut_all(&packets, stream, &[size]).unwrap(), parts, "in pieces of {size}");
    }
    let packets = by_end("\n", 8);
    assert_eq!(read(&packets, b"1234567\n"), whole(8));
    assert_eq!(read(&packets, b"12345678\n"), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, b"12345678"), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, b"1234567"), UNKNOWN);
}

#[test]
fn mqtt_is_cut_by_its_remaining_length() {
    let packets = Packets { cut: PacketCut::Mqtt, max: 1000 };
    assert_eq!(read(&packets, &[0xc0, 0]), whole(2));
    assert_eq!(read(&packets, &[0x30, 0x82, 2]), wants(3 + 258));
    assert_eq!(read(&packets, &[0x30, 0x82]), UNKNOWN);
    assert_eq!(read(&packets, &[0x30, 0xff, 0xff, 0xff, 0x7f]), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, &[0x30, 0x80, 0x80, 0x80, 0x80]), Err(PacketRefusal::Malformed));
}

#[test]
fn redis_is_cut_by_its_values_however_they_nest() {
    let packets = Packets { cut: PacketCut::Redis, max: 1000 };
    let values: [&[u8]; 14] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$5\r\nhe\r\no\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        b"*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n$0\r\n\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
        b"~1\r\n,1.5\r\n",
        b"=8\r\ntxt:some\r\n",
        b"PING\r\n",
    ];
    let stream = values.concat();
    for size in [1, 2, 3, 7, 50, stream.len()] {
        assert_eq!(cut_all(&packets, &stream, &[size]).unwrap(), values, "in pieces of {size}");
    }
    let commands = Packets { cut: PacketCut::RedisCommands, max: 1000 };
    let values: [&[u8]; 3] =
        [b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"PING\r\n", b"*1\r\n$4\r\nPING\r\n"];
    for size in [1, 2, 9, 50] {
        assert_eq!(cut_all(&commands, &values.concat(), &[size]).unwrap(), values);
    }
    // Redis reads these as two commands, as none, or as a line.
    for bytes in [
        &b"PING\nBLPOP k 1\r\n"[..],
        b"\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"$9\r\nBLPOP k 1\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n$-1\r\n",
    ] {
        let read = read(&commands, bytes);
        assert_eq!(read, Err(PacketRefusal::Malformed), "{:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(read(&packets, b"+a\nb\r\n"), Err(PacketRefusal::Malformed));
    assert_eq!(read(&packets, b"$5\r\nhe"), wants(11));
    assert_eq!(read(&packets, b"*1000000000\r\n"), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, b"*999999999999999999999999\r\n"), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, b"$-5\r\n"), Err(PacketRefusal::Negative));
    assert_eq!(read(&packets, b"$\r\n"), Err(PacketRefusal::Malformed));
    assert_eq!(read(&packets, b"$999\r\n"), Err(PacketRefusal::TooLong));
    assert_eq!(read(&packets, &[b'x'; 1000]), Err(PacketRefusal::TooLong));
}

/// Makes a packet of a body.
type Frame = fn(&[u8]) -> Vec<u8>;

fn framings() -> Vec<(Packets, Frame)> {
    fn plain(body: &[u8]) -> Vec<u8> {
        body.iter().map(|byte| byte & 0x3f | 0x40).collect()
    }
    vec![
        (by_length("u32be", 0, None, 400), |body| {
            [&(body.len() as u32).to_be_bytes()[..], body].concat()
        }),
        (by_length("u16le", 1, Some(0), 400), |body| {
            [&[7][..], &(body.len() as u16 + 3).to_le_bytes(), body].concat()
        }),
        (by_length("varint", 0, None, 400), |body| {
            let length = body.len();
            let head = if length < 128 {
                vec![length as u8]
            } else {
                vec![length as u8 | 0x80, (length >> 7) as u8]
            };
            [head, body.to_vec()].concat()
        }),
        (by_length("decimal", 0, None, 400), |body| {
            [format!("{}:", body.len()).as_bytes(), body].concat()
        }),
        (by_end("\r\n", 400), |body| [&plain(body)[..], b"\r\n"].concat()),
        (Packets { cut: PacketCut::Mqtt, max: 400 }, |body| {
            let body = &body[..body.len().min(127)];
            [&[0x30, body.len() as u8][..], body].concat()
        }),
        (Packets { cut: PacketCut::Redis, max: 400 }, |body| {
            [format!("*2\r\n:1\r\n${}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
        }),
    ]
}

proptest! {
    #[test]
    fn any_cutting_of_any_packets_gives_the_same_packets(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        for (packets, frame) in framings() {
            let all: Vec<_> = bodies.iter().map(|body| frame(body)).collect();
            let stream = all.concat();
            prop_assert_eq!(&cut_all(&packets, &stream, &sizes).unwrap(), &all);
            prop_assert_eq!(&cut_all(&packets, &stream, &[stream.len()]).unwrap(), &all);
        }
    }

    #[test]
    fn garbage_never_wants_more_than_the_largest_packet(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for (packets, _) in framings() {
            let mut progress = PacketProgress::default();
            for come in 0..=bytes.len() {
                match packets.read(&bytes[..come], &mut progress) {
                    Ok(PacketRead::Whole { length }) => {
                        prop_assert!((1..=400).contains(&length) && length <= come);
                        break;
                    }
                    Ok(PacketRead::Partial { total }) => {
                        prop_assert!(come < 400 && total.is_none_or(|total| total > come && total <= 400));
                    }
                    Err(_) => break,
                }
            }
        }
    }
}

#[test]
fn a_body_becomes_the_packet_that_the_field_describes() {
    let written = |packets: &Packets, body: &[u8], template: &[u8]| {
        let mut to = b"before".to_vec();
        packets.write(body, template, &mut to).map(|()| to.split_off(6))
    };
    let cases: [(Packets, &[u8]); 9] = [
        (by_length("u32be", 0, None, 100), b"\0\0\0\x02hi"),
        (by_length("u16le", 0, Some(0), 100), b"\x04\0hi"),
        (by_length("u8", 2, None, 100), b"MA\x02hi"),
        (by_length("u8", 0, Some(4), 100), b"\x02AGIhi"),
        (by_length("u8", 1, Some(1), 100), b"M\x03hi"),
        (by_length("varint", 0, None, 100), b"\x02hi"),
        (by_length("decimal", 0, None, 100), b"2:hi"),
        (by_length("decimal4", 0, Some(0), 100), b"0006hi"),
        (by_end("\r\n", 100), b"hi\r\n"),
    ];
    for (packets, wanted) in cases {
        assert_eq!(written(&packets, b"hi", b"MAGIC").unwrap(), wanted, "{packets:?}");
        assert_eq!(packets.body_of(wanted), b"hi", "{packets:?}");
    }
    // 127 and its own byte are one too many for one byte of a varint.
    let counts_itself = by_length("varint", 0, Some(0), 1000);
    assert_eq!(written(&counts_itself, &[7; 126], &[]).unwrap()[..2], [127, 7]);
    assert_eq!(written(&counts_itself, &[7; 127], &[]).unwrap()[..3], [129, 1, 7]);
}

#[test]
fn what_would_not_be_read_as_one_packet_is_not_written() {
    let refused = |packets: &Packets, body: &[u8]| {
        let mut to = b"before".to_vec();
        let refusal = packets.write(body, &[], &mut to).unwrap_err();
        assert_eq!(to, b"before");
        assert!(to.capacity() < 4096, "it was built before it was refused");
        refusal
    };
    assert_eq!(refused(&by_length("u32be", 0, None, 10), b"1234567"), PacketRefusal::TooLong);
    assert_eq!(refused(&by_length("u8", 0, None, 1000), &[0; 256]), PacketRefusal::TooLong);
    assert_eq!(refused(&by_length("i8", 0, None, 1000), &[0; 128]), PacketRefusal::TooLong);
    assert_eq!(refused(&by_length("decimal2", 0, None, 1000), &[0; 100]), PacketRefusal::TooLong);
    assert_eq!(refused(&by_end("\r\n", 100), b"two\r\nlines"), PacketRefusal::Malformed);
    let far = by_length("u32be", 1 << 30, None, 10);
    assert_eq!(refused(&far, b"x"), PacketRefusal::TooLong);
    // The end would begin within the body.
    assert_eq!(refused(&by_end("aa", 100), b"xa"), PacketRefusal::Malformed);
    let mqtt = Packets { cut: PacketCut::Mqtt, max: 100 };
    assert_eq!(mqtt.is_one(&[0xc0, 0]), Ok(()));
    assert_eq!(refused(&mqtt, &[0xc0, 0, 0xc0, 0]), PacketRefusal::Malformed);
    assert_eq!(refused(&mqtt, &[0xc0]), PacketRefusal::Malformed);
}

#[test]
fn what_is_put_before_a_body_is_counted_and_the_rest_of_the_header_stays() {
    let prefixed = |packets: &Packets, packet: &[u8]| {
        let mut to = Vec::new();
        packets.write_prefixed(packet, b"oh ", &mut to).map(|()| to)
    };
    let magic = by_length("u8", 2, Some(4), 8);
    assert_eq!(prefixed(&magic, b"MA\x02Ghi").unwrap(), b"MA\x05Goh hi");
    let counts_itself = by_length("varint", 0, Some(0), 1000);
    let long = [&[127][..], &[7; 126]].concat();
    assert_eq!(prefixed(&counts_itself, &long).unwrap()[..6], [131, 1, b'o', b'h', b' ', 7]);
    // Syslog over TCP ends its length with a space (RFC 6587).
    let decimal = by_length("decimal", 0, None, 100);
    assert_eq!(prefixed(&decimal, b"5 hello").unwrap(), b"8 oh hello");
    let mut to = Vec::new();
    decimal.write(b"hello", b"0 ", &mut to).unwrap();
    assert_eq!(to, b"5 hello");
    // The largest may become larger: it is the field that must be able to say so.
    let byte = by_length("u8", 0, None, 256);
    let largest = [&[252][..], &[7; 252]].concat();
    assert_eq!(prefixed(&byte, &largest).unwrap().len(), 256);
    let largest = [&[253][..], &[7; 253]].concat();
    assert_eq!(prefixed(&byte, &largest), Err(PacketRefusal::TooLong));
    assert_eq!(prefixed(&by_end("\n", 100), b"hi\n"), Err(PacketRefusal::Malformed));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_as_its_body(
        kind in proptest::sample::select(LengthKind::names().collect::<Vec<_>>()),
        offset in 0_usize..5,
        body_offset in proptest::option::of(0_usize..30),
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let packets = by_length(kind, offset, body_offset, 1000);
        let mut packet = Vec::new();
        match packets.write(&body, b"\xffHEAD", &mut packet) {
            Ok(()) => {
                prop_assert_eq!(packets.is_one(&packet), Ok(()));
                prop_assert_eq!(packets.body_of(&packet), &body[..]);
            }
            // One byte cannot count so many, nor a field without its digits' end be found, nor less than it has itself.
            Err(refusal) => prop_assert!(
                body.len() > 90 || matches!(refusal, PacketRefusal::Negative | PacketRefusal::Empty),
                "{kind} {offset} {body_offset:?}: {refusal}"
            ),
        }
    }
}
