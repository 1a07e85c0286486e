//! All promises of Evenkeel in one test program; each module is one promise or one family of them.

mod support;

mod tidy;

mod access_log;
mod backpressure;
mod balancing;
mod command_line;
mod demo;
mod descriptors;
mod docs_samples;
mod drain;
mod failover;
mod half_close;
mod health;
mod http2_abuse;
mod http2_downgrade;
mod http2_hostile_backend;
mod http2_slow;
mod http_files;
mod http_forwarding;
mod http_smuggling;
mod limits;
mod listeners;
mod many;
mod names;
mod readme;
mod real_nginx;
mod real_postgres;
mod real_redis;
mod resets;
mod round_robin;
mod source_addresses;
mod timeouts;
mod transfers;
