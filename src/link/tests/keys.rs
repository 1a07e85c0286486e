//! Records with every suite, changes of keys, and what is told of records that cannot be taken.

use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite};

use super::*;

/// Sends `sizes` bytes there, and as many back; the other side's keys change in between as often as it likes.
fn pass_both_ways(suite: SupportedCipherSuite, change_keys: bool) {
    const SIZES: [usize; 8] = [1, 16_383, 16_384, 16_385, 32_768, 32_769, 100_000, 3];
    let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let client = move |mut client: Client| {
        for (turn, size) in SIZES.into_iter().enumerate() {
            client.write_all(&vec![turn as u8; size]).unwrap();
            let mut back = vec![0; size];
            client.read_exact(&mut back).unwrap();
            assert!(back.iter().all(|byte| *byte == turn as u8 ^ 0x80), "{suite:?} {size}");
            if change_keys {
                client.conn.refresh_traffic_keys().unwrap();
            }
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
    };
    let versions: &[_] = if suite.version() == &TLS13 { &[&TLS13] } else { &[&TLS12] };
    meet_with(&provider, versions, client, async |mut link, other| {
        for (turn, size) in SIZES.into_iter().enumerate() {
            let mut found = 0;
            while found < size {
                let some = read(&mut link, 40_000).await.unwrap();
                assert!(some.iter().all(|byte| *byte == turn as u8), "{suite:?} {size}");
                found += some.len();
            }
            assert_eq!(found, size, "{suite:?}");
            if change_keys {
                let Link::Secured(secured) = &mut link else { panic!() };
                secured.sealer().spend();
            }
            let back = vec![turn as u8 ^ 0x80; size];
            let mut gone = 0;
            while gone < size {
                let rest = &back[gone..];
                let (first, second) = rest.split_at(rest.len().min(turn * 10));
                gone += poll_fn(|cx| link.poll_write_two(cx, first, second, false)).await.unwrap();
            }
            poll_fn(|cx| link.poll_flush(cx)).await.unwrap();
        }
        assert_eq!(read(&mut link, 9).await.unwrap(), b"");
        link.finish_writing();
        other.done().await;
    });
}

#[test]
fn bytes_pass_both_ways_with_every_suite() {
    let suites = aws_lc_rs::ALL_CIPHER_SUITES;
    // With a key of ECDSA, which is the kind that is shown here.
    let is_shown = |suite: &&SupportedCipherSuite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    };
    let shown: Vec<_> = suites.iter().filter(is_shown).collect();
    assert_eq!(shown.len(), 6);
    for suite in shown {
        pass_both_ways(*suite, false);
    }
}

#[test]
fn keys_change_when_they_are_spent_and_when_the_other_side_changes_its_own() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.version() == &TLS13) {
        pass_both_ways(*suite, true);
    }
}

#[test]
fn a_key_of_an_old_version_that_is_spent_is_the_end() {
    let provider = aws_lc_rs::default_provider();
    let client = |mut client: Client| client.read(&mut [0; 9]).is_err();
    meet_with(&provider, &[&TLS12], client, async |mut link, other| {
        let Link::Secured(secured) = &mut link else { panic!() };
        secured.sealer().spend();
        assert!(poll_fn(|cx| link.poll_write(cx, b"too much")).await.is_err());
        drop(link);
        assert!(other.done().await);
    });
}

#[test]
fn changing_keys_again_and_again_without_a_word_is_refused() {
    let client = |mut client: Client| {
        client.read_exact(&mut [0]).unwrap();
        let mut is_heard = true;
        for _ in 0..40 {
            client.conn.refresh_traffic_keys().unwrap();
            // Whoever is refused before the last one finds the line cut, and why not still in it.
            while is_heard && client.conn.wants_write() {
                is_heard = client.conn.write_tls(&mut client.sock).is_ok();
            }
        }
        is_told(&mut client)
    };
    meet(client, async |mut link, other| {
        poll_fn(|cx| link.poll_write(cx, b"!")).await.unwrap();
        let error = read(&mut link, 9).await.unwrap_err();
        assert!(error.to_string().contains("again and again"), "{error}");
        drop(link);
        assert!(other.done().await.contains("UnexpectedMessage"));
    });
}

/// Reads on until it is told why not.
fn is_told(client: &mut Client) -> String {
    loop {
        client.conn.read_tls(&mut client.sock).unwrap();
        if let Err(error) = client.conn.process_new_packets() {
            return error.to_string();
        }
    }
}

#[test]
fn a_record_that_was_changed_on_its_way_is_refused_with_an_alert() {
    let client = |mut client: Client| {
        client.read_exact(&mut [0]).unwrap();
        client.conn.writer().write_all(b"hello").unwrap();
        let mut record = Vec::new();
        client.conn.write_tls(&mut record).unwrap();
        *record.last_mut().unwrap() ^= 1;
        client.sock.write_all(&record).unwrap();
        is_told(&mut client)
    };
    meet(client, async |mut link, other| {
        poll_fn(|cx| link.poll_write(cx, b"!")).await.unwrap();
        for _ in 0..2 {
            let error = read(&mut link, 9).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("not genuine"), "{error}");
        }
        let told = other.done().await;
        assert!(told.contains("BadRecordMac"), "{told}");
    });
}

/// A client at the end of its handshake, and all that it has to send then.
fn at_once(mut client: Client, say: impl FnOnce(&mut ClientConnection)) -> (Client, Vec<u8>) {
    client.conn.write_tls(&mut client.sock).unwrap();
    while client.conn.is_handshaking() {
        client.conn.read_tls(&mut client.sock).unwrap();
        client.conn.process_new_packets().unwrap();
    }
    say(&mut client.conn);
    let mut all = Vec::new();
    while client.conn.wants_write() {
        client.conn.write_tls(&mut all).unwrap();
    }
    (client, all)
}

#[test]
fn a_record_that_was_changed_may_come_with_the_end_of_the_handshake() {
    let client = |client: Client| {
        let hello = |session: &mut ClientConnection| session.writer().write_all(b"hello").unwrap();
        let (mut client, mut all) = at_once(client, hello);
        *all.last_mut().unwrap() ^= 1;
        client.sock.write_all(&all).unwrap();
        is_told(&mut client)
    };
    meet_first(client, async |mut link, other| {
        let error = read(&mut link, 9).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // After such a word nothing more is said.
        assert!(poll_fn(|cx| link.poll_write(cx, b"but")).await.is_err());
        link.finish_writing();
        let told = other.done().await;
        assert!(told.contains("BadRecordMac"), "{told}");
    });
}

#[test]
fn keys_may_change_with_the_end_of_the_handshake() {
    let client = |client: Client| {
        let (mut client, all) = at_once(client, |session| {
            session.refresh_traffic_keys().unwrap();
            session.writer().write_all(b"hello").unwrap();
        });
        client.sock.write_all(&all).unwrap();
        let mut back = [0; 7];
        client.read_exact(&mut back).unwrap();
        back
    };
    meet_first(client, async |mut link, other| {
        assert_eq!(read(&mut link, 9).await.unwrap(), b"hello");
        poll_fn(|cx| link.poll_write(cx, b"and you")).await.unwrap();
        assert_eq!(&other.done().await, b"and you");
    });
}

#[test]
fn whoever_asks_for_new_keys_and_never_reads_makes_us_hold_one_answer() {
    let client = |mut client: Client| {
        client.read_exact(&mut [0]).unwrap();
        for _ in 0..2000 {
            client.conn.refresh_traffic_keys().unwrap();
            client.conn.writer().write_all(b"x").unwrap();
            while client.conn.wants_write() {
                client.conn.write_tls(&mut client.sock).unwrap();
            }
        }
        client
    };
    meet(client, async |mut link, other| {
        poll_fn(|cx| link.poll_write(cx, b"!")).await.unwrap();
        let mut found = 0;
        while found < 2000 {
            found += read(&mut link, 100).await.unwrap().len();
            let Link::Secured(secured) = &link else { panic!() };
            assert!(secured.held() < 5000, "{} after {found}", secured.held());
        }
        drop(other.done().await);
    });
}
