//! What this crate promises to its users, through its public door only.

mod budget;
mod group;
mod hashing;
mod health;
mod ketama;
mod outliers;
mod picks;
mod preferred;
