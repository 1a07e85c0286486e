//! Peers for one test each: they listen on a port that the kernel chose and do what they are told.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_client::{Connection, Connector, Framing};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Four bytes of length and a body.
pub(crate) fn framing() -> Framing {
    Framing::length("u32be").unwrap()
}

/// For tests that are not about time: the machine may be busy.
pub(crate) fn connector(framing: Framing) -> Connector {
    Connector::new(framing).timeout(PATIENCE)
}

pub(crate) fn packet(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection with the other end of it in the hands of the test.
pub(crate) async fn pair(connector: &Connector) -> (Connection, TcpStream) {
    let (listener, address) = listen().await;
    let connection = connector.connect(address).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    (connection, peer)
}

/// The body of the next packet; none at an end between two.
pub(crate) async fn next(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    match stream.read(&mut head[..1]).await.unwrap() {
        0 => return None,
        _ => stream.read_exact(&mut head[1..]).await.unwrap(),
    };
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body).await.unwrap();
    Some(body)
}

/// Answers every packet of one connection with itself.
pub(crate) fn echo(mut stream: TcpStream) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(body) = next(&mut stream).await {
            stream.write_all(&packet(body)).await.unwrap();
        }
    })
}

/// Ends a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    listen().await.1
}

/// A listener whose queue is full: whoever connects hears nothing. It does so for as long as this lives.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl BlackHole {
    pub(crate) fn new() -> BlackHole {
        let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = tcp();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        // The queue is full when one is not let in.
        loop {
            let socket = tcp();
            let is_in = socket.connect_timeout(&address, Duration::from_millis(100)).is_ok();
            sockets.push(socket);
            if !is_in {
                break;
            }
        }
        BlackHole { address: address.as_socket().unwrap(), _sockets: sockets }
    }
}
