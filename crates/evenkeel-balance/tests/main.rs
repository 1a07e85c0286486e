//! What this crate promises to its users, through its public door only.

mod group;
mod hashing;
mod health;
mod ketama;
mod picks;
