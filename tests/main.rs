//! All promises of Evenkeel in one test program; each module is one promise or one family of them.

mod support;

mod tidy;

mod backpressure;
mod balancing;
mod half_close;
mod resets;
mod round_robin;
mod transfers;

mod demo;
mod docs_samples;
mod failover;
mod health;
mod limits;
mod listeners;
mod readme;
mod real_nginx;
mod real_postgres;
mod real_redis;
mod timeouts;
mod access_log;
mod command_line;
mod drain;
mod descriptors;
mod many;
mod names;
