//! ClientHellos: the name and the protocols are found however the message comes, and what is none is refused.

use evenkeel_wire::{
    CLIENT_HELLO_BYTES_MAX, ClientHello, ClientHelloRead, ClientHelloRefusal, read_client_hello,
};

/// A value with its length in so many bytes before it.
fn with_length(bytes: usize, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    [&length[length.len() - bytes..], value].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(2, value)].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    extension(0, &with_length(2, &[&[0][..], &with_length(2, name)].concat()))
}

fn protocols(list: &[&[u8]]) -> Vec<u8> {
    let list: Vec<_> = list.iter().map(|protocol| with_length(1, protocol)).collect();
    extension(16, &with_length(2, &list.concat()))
}

/// The message, with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let session = with_length(1, &[7; 32]);
    let suites = with_length(2, &[0x0a, 0x0a, 0x13, 0x01]);
    let body =
        [&[3, 3][..], &[9; 32], &session, &suites, &[1, 0], &with_length(2, &extensions.concat())];
    [&[1][..], &with_length(3, &body.concat())].concat()
}

/// A message in records that carry so much each.
fn records(message: &[u8], carry: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| [&[22, 3, 1][..], &with_length(2, fragment)].concat();
    message.chunks(carry).flat_map(record).collect()
}

fn whole(bytes: &[u8]) -> Result<ClientHello, ClientHelloRefusal> {
    for cut in 0..bytes.len() {
        match read_client_hello(&bytes[..cut]) {
            Ok(ClientHelloRead::Partial) => {}
            other => assert_eq!(other, read_client_hello(bytes), "after {cut} of {}", bytes.len()),
        }
    }
    match read_client_hello(bytes)? {
        ClientHelloRead::Whole(hello) => Ok(hello),
        ClientHelloRead::Partial => panic!("only a part: {}", bytes.escape_ascii()),
    }
}

fn refused(extensions: &[Vec<u8>]) -> ClientHelloRefusal {
    whole(&records(&message(extensions), 1 << 14)).unwrap_err()
}

#[test]
fn the_name_and_the_protocols_are_found_in_whatever_pieces_they_come() {
    let grease = extension(0x0a0a, b"");
    let more = extension(0x002b, &[2, 3, 4]);
    let message =
        message(&[grease, name(b"WWW.Example.COM."), more, protocols(&[b"h2", b"http/1.1"])]);
    for carry in [1, 5, 40, 1 << 14] {
        // What comes behind it is not looked at.
        let bytes = [records(&message, carry), vec![23, 3, 3, 0, 1, 0]].concat();
        let Ok(ClientHelloRead::Whole(hello)) = read_client_hello(&bytes) else { panic!() };
        assert_eq!(hello.server_name.as_deref(), Some("www.example.com"));
        assert_eq!(hello.protocols, [&b"h2"[..], b"http/1.1"]);
        assert_eq!(whole(&records(&message, carry)), Ok(hello));
    }
}

#[test]
fn of_an_encrypted_hello_the_outer_name_is_seen() {
    // encrypted_client_hello (RFC 9849): whatever is in it is for somebody else.
    let encrypted = extension(0xfe0d, &[0; 200]);
    let message = message(&[encrypted, name(b"public.example")]);
    let hello = whole(&records(&message, 1 << 14)).unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("public.example"));
}

#[test]
fn a_client_may_ask_for_nothing_or_for_an_address() {
    assert_eq!(whole(&records(&message(&[]), 100)), Ok(ClientHello::default()));
    // TLS 1.2 without extensions.
    let mut bare = message(&[]);
    bare.truncate(bare.len() - 2);
    bare[3] -= 2;
    assert_eq!(whole(&records(&bare, 100)), Ok(ClientHello::default()));
    for address in ["192.0.2.1", "2001:db8::1"] {
        let hello = whole(&records(&message(&[name(address.as_bytes())]), 100)).unwrap();
        assert_eq!(hello.server_name.as_deref(), Some(address));
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    use ClientHelloRefusal::{BadName, Malformed};
    assert_eq!(refused(&[name(b"a.test"), name(b"b.test")]), Malformed);
    assert_eq!(refused(&[protocols(&[b"h2"]), protocols(&[b"h2"])]), Malformed);
    let two = [&[0][..], &with_length(2, b"a.test"), &[0], &with_length(2, b"b.test")].concat();
    assert_eq!(refused(&[extension(0, &with_length(2, &two))]), Malformed);
    assert_eq!(refused(&[extension(0, &[&with_length(2, b"")[..], b"x"].concat())]), Malformed);
    assert_eq!(refused(&[protocols(&[])]), Malformed);
    assert_eq!(refused(&[protocols(&[b""])]), Malformed);
    let long = [&[b'a'; 64][..], b".test"].concat();
    for bad in
        [&b""[..], b".", b"a..test", b"a b", b"a\0.test", b"a/b", "\u{e9}.test".as_bytes(), &long]
    {
        assert_eq!(refused(&[name(bad)]), BadName, "{}", bad.escape_ascii());
    }
}

#[test]
fn what_does_not_begin_as_tls_does_is_refused_at_once() {
    use ClientHelloRefusal::{Malformed, NotClientHello, NotTls, TooLong};
    for (bytes, refusal) in [
        (&b"GET / HTTP/1.1\r\n"[..], NotTls),
        (b"\x80\x2e\x01\x03\x01", NotTls),
        (b"\x16\x02", NotTls),
        (b"\x15\x03\x01\x00\x02\x01\x00", NotTls),
        (b"\x16\x03\x01\x00\x00", Malformed),
        (b"\x16\x03\x01\x40\x01", Malformed),
        (b"\x16\x03\x01\x00\x05\x02", NotClientHello),
        (b"\x16\x03\x01\x00\x05\x01\x00\x40\x00", TooLong),
    ] {
        assert_eq!(whole(bytes), Err(refusal), "{}", bytes.escape_ascii());
    }
    // A message in as many records as there is room for, and no end.
    let mut endless = Vec::new();
    while endless.len() < CLIENT_HELLO_BYTES_MAX {
        let fragment: &[u8] = if endless.is_empty() { &[1, 0, 63, 0] } else { &[0] };
        endless.extend(records(fragment, 4));
    }
    assert_eq!(read_client_hello(&endless), Err(TooLong));
}

#[test]
fn lengths_that_do_not_fit_are_refused_wherever_they_stand() {
    let good = message(&[name(b"a.test"), protocols(&[b"h2"])]);
    let mut refusals = 0;
    for at in 4..good.len() {
        for value in [0, good[at].wrapping_add(1), 255] {
            let mut bent = good.clone();
            bent[at] = value;
            refusals += usize::from(whole(&records(&bent, 1 << 14)).is_err());
        }
    }
    assert!(refusals > 50, "{refusals}");
    // A second message in the record of the first.
    assert!(whole(&records(&[good.clone(), good].concat(), 1 << 14)).is_err());
}
