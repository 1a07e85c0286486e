//! The few bytes in clear with which a client of some protocols asks for TLS before its handshake. Only they are read:
//! whatever else came with them is taken for a part of the handshake, and breaks it, so that nothing that was sent
//! in clear is ever taken for something that was sent through TLS (CVE-2021-23222).

use std::future::poll_fn;
use std::io;

use super::StartTls;
use crate::socket::Socket;

/// SSLRequest and GSSENCRequest of PostgreSQL: a length of 8, and a version that there is not.
const POSTGRESQL_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const POSTGRESQL_GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

impl StartTls {
    /// Goes through what stands before the handshake. Whether the client has asked for one; one that has not is left as
    /// it came.
    pub(super) async fn agree(self, socket: &Socket) -> io::Result<bool> {
        match self {
            StartTls::Postgresql => {
                // One that would rather have Kerberos asks for that first, once.
                for _ in 0..2 {
                    let mut asked = [0; 8];
                    if !peek_all(socket, &mut asked).await? {
                        return Ok(false);
                    }
                    let (answer, is_over) = match asked {
                        POSTGRESQL_TLS => (b"S", true),
                        POSTGRESQL_GSS => (b"N", false),
                        _ => return Ok(false),
                    };
                    socket.take(&mut asked)?;
                    socket.send_first(answer)?;
                    if is_over {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// Waits for as many bytes without taking them; whether they have come. One that begins as TLS does is not waited for.
async fn peek_all(socket: &Socket, into: &mut [u8]) -> io::Result<bool> {
    let mut known = 0;
    loop {
        let arrived = poll_fn(|cx| socket.poll_peek_beyond(cx, known, into)).await?;
        if arrived.count == into.len() {
            return Ok(true);
        }
        if arrived.ended || into[0] != 0 {
            return Ok(false);
        }
        known = arrived.count;
    }
}
