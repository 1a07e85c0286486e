//! Whether a route compresses answers: `true` with the defaults, or a table that says how.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::config::Compression;
use crate::config::read::{Node, Reader, Value};

/// `compress` of a route.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Compress {
    /// Not at all.
    #[default]
    Off,
    /// Like this.
    On(Compression),
}

impl Serialize for Compress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Compress::Off => serializer.serialize_bool(false),
            Compress::On(table) => table.serialize(serializer),
        }
    }
}

impl JsonSchema for Compress {
    fn schema_name() -> Cow<'static, str> {
        "Compress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (switch, table) = (bool::schema(generator), generator.subschema_for::<Compression>());
        json_schema!({ "anyOf": [switch, table] })
    }
}

impl Value for Compress {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => Compression::read(node, reader).map(Compress::On),
            DeValue::Boolean(_) | DeValue::String(_) => {
                let on = bool::read(node, reader)?;
                Some(if on { Compress::On(Compression::default()) } else { Compress::Off })
            }
            _ => reader.mismatch(node, &Self::words()),
        }
    }

    fn words() -> String {
        "true, false, or a table".to_owned()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}
