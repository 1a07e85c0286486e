//! HAProxy in front of Evenkeel, which says for whom it connects in every way that it can.

use std::net::SocketAddr;

use crate::support::backend::{Backend, fresh_loopback};
use crate::support::client::{connect_from, is_served};
use crate::support::config;
use crate::support::program::Program;
use crate::support::servers;

#[test]
fn a_client_of_haproxy_is_known_by_its_own_address() {
    let backend = Backend::echo();
    let rules = "accept-proxy = { from = \"127.0.0.1\" }";
    for how in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let program = Program::run(&config(&[backend.address], "", rules));
        let haproxy = servers::haproxy("", program.address("public"), how);
        let client: SocketAddr = {
            let stream = connect_from(fresh_loopback(), haproxy.address);
            assert!(is_served(&stream), "{how}");
            stream.local_addr().unwrap()
        };
        // Whether it was ready was asked by a connection too.
        let found = || program.output().lines().any(|line| line.contains(&client.to_string()));
        crate::support::until("the line of the client", found);
        assert!(!program.output().contains("proxy-header"), "{how}: {}", program.output());
    }
}
