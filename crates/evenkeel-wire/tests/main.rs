//! What this crate promises to its users, through its public door only.

mod chunks;
mod client_hello;
mod fields;
mod fuzz_bodies;
mod fuzzed;
mod h2_answers;
mod h2_heads;
mod h2_support;
mod h2_targets;
mod hyper_reads;
mod packets;
mod proxy;
mod requests;
mod responses;
mod support;
mod transfer_encodings;
