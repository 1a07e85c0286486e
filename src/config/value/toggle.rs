//! Something that is on or off: `true` with the defaults, or a table that says how.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::config::read::{Node, Reader, Value};

/// A table that may be left out, or be `true` for all its defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Toggle<T> {
    /// Not at all.
    #[default]
    Off,
    /// Like this.
    On(T),
}

impl<T> Toggle<T> {
    /// How, if at all.
    pub fn on(&self) -> Option<&T> {
        match self {
            Toggle::Off => None,
            Toggle::On(table) => Some(table),
        }
    }
}

impl<T: Serialize> Serialize for Toggle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Toggle::Off => serializer.serialize_bool(false),
            Toggle::On(table) => table.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Toggle<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrSwitch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (switch, table) = (bool::schema(generator), generator.subschema_for::<T>());
        json_schema!({ "anyOf": [switch, table] })
    }
}

impl<T: Value + JsonSchema + Default> Value for Toggle<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => T::read(node, reader).map(Toggle::On),
            DeValue::Boolean(_) | DeValue::String(_) => {
                let on = bool::read(node, reader)?;
                Some(if on { Toggle::On(T::default()) } else { Toggle::Off })
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
