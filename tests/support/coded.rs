//! Compressed bodies for tests: a proxy whose route compresses, and decoders that say whether a body was whole.

use std::io::{self, Read};
use std::net::SocketAddr;

use super::http::{Asked, Recorder, config, serve};

/// Every coding by its name.
pub(crate) const ALL: [&str; 3] = ["br", "zstd", "gzip"];

/// Text that can be compressed, but not to nothing.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let words = super::noise(7, length / 4 + 8);
    let mut text = Vec::with_capacity(length + 16);
    for pair in words.chunks(2) {
        text.extend_from_slice(
            format!(".a{} {{ color: #{:02x} }}\n", pair[0] % 16, pair[1 % pair.len()]).as_bytes(),
        );
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}

/// An answer with this style sheet.
pub(crate) fn css(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nETag: \"v\"\r\nAccept-Ranges: bytes\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A config whose only route goes to these backends, with further lines.
pub(crate) fn route(backends: &[SocketAddr], upstream: &str, lines: &str) -> String {
    let route = format!("[[http.web.route]]\nupstream = \"app\"\n{lines}\n");
    config(backends, upstream, "").replace(
        "listen = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        &format!("listen = \"127.0.0.1:0\"\n{route}"),
    )
}

/// A proxy whose only route has these lines, over a backend that answers like this.
pub(crate) fn site(
    lines: &str,
    answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
) -> (Recorder, evenkeel::Running, SocketAddr) {
    let recorder = Recorder::answering(answer);
    let (running, door) = serve(&route(&[recorder.address()], "", lines));
    (recorder, running, door)
}

/// The body that was compressed; an error when it is not whole.
pub(crate) fn decoded(coding: &str, coded: &[u8]) -> io::Result<Vec<u8>> {
    let (body, whole) = decoded_so_far(coding, coded);
    whole.map(|()| body)
}

/// What can be read of a body, and whether it came to its end.
pub(crate) fn decoded_so_far(coding: &str, coded: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut decoder: Box<dyn Read + '_> = match coding {
        "br" => Box::new(brotli::Decompressor::new(coded, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(coded).expect("a decoder")),
        "gzip" => Box::new(flate2::read::GzDecoder::new(coded)),
        other => panic!("{other} is no coding"),
    };
    let (mut body, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (body, Ok(())),
            Ok(count) => body.extend_from_slice(&piece[..count]),
            Err(error) => return (body, Err(error)),
        }
    }
}
