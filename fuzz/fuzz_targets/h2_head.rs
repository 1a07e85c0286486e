//! Any bytes as frames of HTTP/2, cut anywhere, and as the fields of a request that goes on as HTTP/1.

#![no_main]

#[allow(dead_code, reason = "the other targets use the rest")]
#[path = "../../crates/evenkeel-wire/tests/fuzz_bodies.rs"]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = fuzz_bodies::h2_head(bytes);
});
