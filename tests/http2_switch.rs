//! WebSocket and its like through every pair of versions: 101 on one side is an extended CONNECT on the other (RFC 8441).

use std::io::{Read, Write};

use bytes::Bytes;
use http::HeaderMap;

use crate::support::backend::Backend;
use crate::support::h2::{H2Backend, H2Client, read_all, request, send_all};
use crate::support::http::{Client, Recorder, config, ok, serve};

/// Lines of an upstream whose backends speak HTTP/2.
const H2: &str = "h2 = true";

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

/// A backend that switches to a protocol which sends back what it gets, in capitals.
fn switching() -> Backend {
    Backend::serving(|mut stream| {
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes)?;
        let head = String::from_utf8_lossy(&bytes[..count]).to_lowercase();
        let is_handshake = head.starts_with("get /chat http/1.1\r\n")
            && head.contains("\r\nupgrade: websocket\r\n")
            && head.contains("\r\nconnection: upgrade\r\n")
            && head.contains("\r\nsec-websocket-key: ")
            && head.contains("\r\nsec-websocket-version: 13\r\n");
        if !is_handshake {
            return stream.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n");
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n")?;
        loop {
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return stream.write_all(b"BYE");
            }
            stream.write_all(&bytes[..count].to_ascii_uppercase())?;
        }
    })
}

fn websocket() -> http::Request<()> {
    let mut asked = request("CONNECT", "/chat");
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    *asked.headers_mut() =
        fields(&[("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]);
    asked
}

#[test]
fn a_websocket_over_http2_reaches_a_backend_of_http1() {
    let backend = switching();
    let (_running, door) = serve(&config(&[backend.address], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        // The setting that allows it comes with the first frame of the other side.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (answer, mut send) = sender.send_request(websocket(), false).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["sec-websocket-protocol"], "chat");
        assert!(!head.headers.contains_key("sec-websocket-accept"));
        for word in ["hello", "world"] {
            send_all(&mut send, word.as_bytes(), false).await.unwrap();
            let echo = body.data().await.unwrap().unwrap();
            assert_eq!(echo, word.to_uppercase());
            body.flow_control().release_capacity(echo.len()).unwrap();
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read_all(&mut body).await.unwrap().0, b"BYE");
    });
    assert_eq!(client.get("/after").status, 400);
}

#[test]
fn an_extended_connect_that_is_not_answered_by_a_switch_is_no_success() {
    let recorder = Recorder::answering(|_| ok(b"just a page"));
    let (_running, door) = serve(&config(&[recorder.address()], "", ""));
    let client = H2Client::connect(door);
    client.run(async {
        let mut sender = client.sender().ready().await.unwrap();
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (answer, _send) = sender.send_request(websocket(), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 502);
    });
}

/// A backend of HTTP/2 that takes an extended CONNECT for a protocol which sends back what it gets, in capitals.
fn switching_streams() -> Backend {
    Backend::serving(move |stream| {
        stream.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let mut builder = h2::server::Builder::new();
            let greeting = builder.enable_connect_protocol().handshake::<_, Bytes>(stream);
            let mut connection = greeting.await.map_err(std::io::Error::other)?;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let protocol = request.extensions().get::<h2::ext::Protocol>().cloned();
                let is_chat = request.uri().path() == "/chat"
                    && request.method() == "CONNECT"
                    && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
                    && !request.headers().contains_key("sec-websocket-key");
                let mut head = http::Response::new(());
                if !is_chat {
                    *head.status_mut() = http::StatusCode::BAD_REQUEST;
                    let _ = respond.send_response(head, true);
                    continue;
                }
                let mut send = respond.send_response(head, false).map_err(std::io::Error::other)?;
                let mut body = request.into_body();
                tokio::spawn(async move {
                    while let Some(Ok(part)) = body.data().await {
                        let _ = body.flow_control().release_capacity(part.len());
                        let _ = send.send_data(part.to_ascii_uppercase().into(), false);
                    }
                    let _ = send.send_data(Bytes::from_static(b"BYE"), true);
                });
            }
            Ok(())
        })
    })
}

#[test]
fn a_websocket_over_http1_reaches_a_backend_of_http2() {
    let backend = switching_streams();
    let (_running, door) = serve(&config(&[backend.address], H2, ""));
    let mut client = Client::connect(door);
    client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut echo = [0; 5];
    for word in ["hello", "world"] {
        client.send(word);
        client.stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, word.to_uppercase().as_bytes());
    }
    client.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"BYE");
}

#[test]
fn a_backend_of_http2_that_cannot_switch_is_no_success() {
    let backend = H2Backend::echoing();
    let (_running, door) = serve(&config(&[backend.address], H2, ""));
    let mut client = Client::connect(door);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.answer().status, 502);
}
