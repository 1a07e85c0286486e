//! What this crate promises to its users, through its public door only.

mod codec;
mod connecting;
mod events;
mod receiving;
mod reconnecting;
mod requests;
mod sending;
mod support;
mod tls;
