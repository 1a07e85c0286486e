//! What reading a head or a chunked body costs: `cargo bench -p evenkeel-wire`.

use divan::Bencher;
use divan::counter::BytesCount;
use evenkeel_wire::{ChunkLimits, Chunked, Limits, Method, Request, Response, Step};

const LIMITS: Limits = Limits { head_max: 16_384, line_max: 8_192, fields_max: 100 };

const REQUEST: &[u8] = b"GET /assets/app.js?v=12 HTTP/1.1\r\nHost: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0\r\nAccept: */*\r\n\
Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
Referer: https://www.example.com/\r\nCookie: session=0123456789abcdef\r\n\
Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n\
Content-Type: text/javascript\r\nContent-Length: 1024\r\nLast-Modified: Mon, 23 Nov 2026 00:00:00 GMT\r\n\
ETag: \"0123456789\"\r\nAccept-Ranges: bytes\r\n\r\n";

fn main() {
    divan::main();
}

#[divan::bench]
fn request(bencher: Bencher) {
    let mut request = Request::default();
    bencher
        .counter(BytesCount::new(REQUEST.len()))
        .bench_local(|| request.read(divan::black_box(REQUEST), &LIMITS));
}

#[divan::bench]
fn response(bencher: Bencher) {
    let mut response = Response::default();
    bencher
        .counter(BytesCount::new(RESPONSE.len()))
        .bench_local(|| response.read(divan::black_box(RESPONSE), &Method::Get, &LIMITS));
}

#[divan::bench(args = [64, 16_384])]
fn chunked(bencher: Bencher, size: usize) {
    let mut body = Vec::new();
    while body.len() < 65_536 {
        evenkeel_wire::write_chunk_size(&mut body, size);
        body.resize(body.len() + size, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut chunked = Chunked::new(ChunkLimits { extension_max: 256, trailers: LIMITS });
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        chunked.restart();
        let mut rest = divan::black_box(body.as_slice());
        while let Ok(Step::Data { skip, length }) = chunked.step(rest) {
            rest = rest.get(skip + length..).unwrap_or_default();
        }
        rest.len()
    });
}
