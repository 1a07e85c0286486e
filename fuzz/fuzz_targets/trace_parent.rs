//! Any bytes as the trace that a request belongs to.

#![no_main]

#[allow(dead_code, reason = "the other targets use the rest")]
#[path = "../../crates/evenkeel-wire/tests/fuzz_bodies.rs"]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::trace_parent(bytes));
