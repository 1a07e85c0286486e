//! Addresses without ports, and networks of them: `"192.0.2.1"`, `"10.0.0.0/8"`. The types are those
//! of the standard library and of ipnet; this file only says how the config file spells them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::config::problem::{Misread, shown};
use crate::config::read::{Node, Reader, Value};

fn text_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// A network; an address on its own is a network of one.
impl Value for IpNet {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.parsed(node, &Self::words(), |text| {
            let alone = text.parse().map(|address: IpAddr| IpNet::from(address));
            alone.or_else(|_| text.parse()).map_err(|_| {
                Misread::new(format!("\"{}\" is not a network", shown(text)))
                    .advise("write an address or a network: \"192.0.2.1\", \"10.0.0.0/8\"")
            })
        })
    }

    fn words() -> String {
        "network, as \"10.0.0.0/8\"".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        text_schema(generator)
    }
}

impl Value for IpAddr {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.parsed(node, &Self::words(), |text| {
            text.parse().map_err(|_| {
                Misread::new(format!("\"{}\" is not an IP address", shown(text)))
                    .advise("write an address without a port: \"192.0.2.1\", \"2001:db8::1\"")
            })
        })
    }

    fn words() -> String {
        "IP address, as \"192.0.2.1\"".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        text_schema(generator)
    }
}

impl Value for SocketAddr {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.parsed(node, &Self::words(), |text| {
            text.parse().map_err(|_| {
                Misread::new(format!("\"{}\" is not an IP address with a port", shown(text)))
                    .advise("write both: \"192.0.2.53:53\", \"[2001:db8::53]:53\"")
            })
        })
    }

    fn words() -> String {
        "IP address with port, as \"192.0.2.53:53\"".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        text_schema(generator)
    }
}
