//! What we would write on for a request, as hyper reads it: it must say the same.

#![no_main]

#[allow(dead_code, reason = "the other targets use the rest")]
#[path = "../../crates/evenkeel-wire/tests/fuzz_bodies.rs"]
mod fuzz_bodies;

#[path = "../../crates/evenkeel-wire/tests/hyper_reads.rs"]
mod hyper_reads;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = hyper_reads::request_head(bytes);
});
