//! What a client says before its first byte of payload: its handshake where TLS ends here, or its ClientHello, only looked
//! at, where routes go by it. Nothing of what is only looked at is taken: a backend gets all of it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::{
    CLIENT_HELLO_BYTES_MAX, ClientHello, ClientHelloRead, ClientHelloRefusal, read_client_hello,
};

use super::Desk;
use crate::link::Link;
use crate::observe::ended::Why;
use crate::observe::meter::Meter;
use crate::socket::Socket;
use crate::tcp::{Cut, Outcome};
use crate::tls::{Accepted, Acceptor, Agreed, Failed, HandshakeFlaw, UNRECOGNIZED_NAME};

/// A client that has said what it wants.
pub(super) struct Greeted {
    pub(super) link: Link,
    /// The name it asks for.
    pub(super) name: Option<Arc<str>>,
    /// The protocols it offers, or the one that was agreed on.
    pub(super) protocols: Vec<Vec<u8>>,
    /// What its handshake came to; none where TLS ends elsewhere.
    pub(super) agreed: Option<Arc<Agreed>>,
}

/// A client that does not speak TLS, or whose connection is over.
pub(super) enum Not {
    /// It speaks something else, of which nothing has been read.
    Tls(Socket),
    /// Boxed, because room for it would be kept for as long as a connection lasts.
    Alive(Box<Outcome>),
}

impl Not {
    fn alive(why: Why, detail: Option<String>) -> Not {
        Not::Alive(Outcome::without_backend(why, detail).into())
    }
}

/// Takes a client through its handshake.
pub(super) async fn secure(
    tls: &Acceptor,
    socket: Socket,
    meter: &Meter,
    desk: &Desk,
    cut: &Cut,
) -> Result<Greeted, Not> {
    let accepted = tokio::select! {
        accepted = tls.accept(socket, &desk.pace) => accepted,
        () = cut.asked() => return Err(Not::alive(Why::DrainCut, None)),
    };
    match &accepted {
        Ok(_) => meter.shaken_hands(Ok(())),
        Err(Failed::Plain(_)) if tls.allows_plain() => {}
        Err(failed) => {
            HandshakeFlaw::of(failed).into_iter().for_each(|flaw| meter.shaken_hands(Err(flaw)));
        }
    }
    match accepted {
        Ok(Accepted { link, agreed }) => {
            let protocols = link.protocol().map(<[u8]>::to_vec).into_iter().collect();
            let (name, agreed) = (agreed.name.clone(), Some(Arc::new(agreed)));
            Ok(Greeted { link, name, protocols, agreed })
        }
        Err(Failed::Plain(socket)) => Err(Not::Tls(socket)),
        Err(Failed::Silent | Failed::Challenged) => Err(Not::alive(Why::ClientFinished, None)),
        Err(failed) => Err(Not::alive(Why::TlsFailed, Some(failed.to_string()))),
    }
}

/// Looks at the ClientHello of a client whose TLS ends elsewhere.
pub(super) async fn look(socket: Socket, most: Duration, cut: &Cut) -> Result<Greeted, Not> {
    let hello = tokio::select! {
        hello = tokio::time::timeout(most, hello(&socket)) => hello,
        () = cut.asked() => return Err(Not::alive(Why::DrainCut, None)),
    };
    let hello = match hello {
        Ok(Ok(hello)) => hello,
        Ok(Err(None)) => return Err(Not::alive(Why::ClientFinished, None)),
        Ok(Err(Some(ClientHelloRefusal::NotTls))) => return Err(Not::Tls(socket)),
        Ok(Err(Some(refusal))) => {
            return Err(Not::alive(Why::TlsFailed, Some(refusal.to_string())));
        }
        Err(_) => {
            let late = format!("no whole ClientHello within {most:?}");
            return Err(Not::alive(Why::TlsFailed, Some(late)));
        }
    };
    let ClientHello { server_name, protocols } = hello;
    let name = server_name.map(Arc::from);
    Ok(Greeted { link: Link::Plain(socket), name, protocols, agreed: None })
}

/// The ClientHello; without a refusal, the client has ended before it was whole.
async fn hello(socket: &Socket) -> Result<ClientHello, Option<ClientHelloRefusal>> {
    let mut bytes = vec![0; CLIENT_HELLO_BYTES_MAX];
    let mut known = 0;
    loop {
        let arrived = poll_fn(|cx| socket.poll_peek_beyond(cx, known, &mut bytes)).await;
        let arrived = arrived.map_err(|_| None)?;
        match read_client_hello(&bytes[..arrived.count]).map_err(Some)? {
            ClientHelloRead::Whole(hello) => return Ok(hello),
            ClientHelloRead::Partial if arrived.ended => return Err(None),
            ClientHelloRead::Partial => known = arrived.count,
        }
    }
}

/// Tells a client that there is nobody of the name it asks for, as a server would.
pub(super) fn tell_unrecognized(link: &Link) {
    if let Link::Plain(socket) = link {
        // Nothing has been sent yet: there is room for it.
        let _ = socket.send_first(&UNRECOGNIZED_NAME);
    }
}
