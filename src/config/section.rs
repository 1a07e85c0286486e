//! The `section!` macro: from one declaration it makes the struct, its defaults, its reader, its
//! schema and its rows in the reference page. It holds no knowledge of any single key.

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A table of the config file, described: its keys, their types, defaults and meanings.
pub trait Section: Sized {
    /// What the table is for, in a sentence or two.
    const ABOUT: &'static str;

    /// Every key of the table, in the order of the reference page.
    fn fields() -> Vec<Field>;
}

/// One key of a section: what may stand there and what it means.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key as it is written in the file, in kebab-case.
    pub key: String,
    /// What the key does.
    pub meaning: &'static str,
    /// The kind of value, in words.
    pub words: String,
    /// Whether a file without the key is refused.
    pub required: bool,
    /// The value of an absent key; none where there is no value to write down.
    pub default: Option<serde_json::Value>,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A field name as it is written in the file: `idle_timeout` is `idle-timeout`, `r#try` is `try`.
pub(super) fn key(field: &str) -> String {
    field.trim_start_matches("r#").replace('_', "-")
}

/// A default as it would be written down: nothing for an absent value, nothing for a whole table.
pub(super) fn written(default: &impl serde::Serialize) -> Option<serde_json::Value> {
    serde_json::to_value(default).ok().filter(|value| !value.is_null() && !value.is_object())
}

/// The schema of a table with these fields and no others.
pub(super) fn schema<T: Section>(generator: &mut SchemaGenerator) -> Schema {
    let mut properties = IndexMap::new();
    let mut required = Vec::new();
    for field in T::fields() {
        let mut property = (field.schema)(generator);
        property.insert("description".into(), field.meaning.trim().into());
        if let Some(default) = field.default {
            property.insert("default".into(), default);
        }
        if field.required {
            required.push(field.key.clone());
        }
        properties.insert(field.key, property);
    }
    let properties: serde_json::Map<String, serde_json::Value> =
        properties.into_iter().map(|(key, schema)| (key, schema.to_value())).collect();
    let mut schema = json_schema!({
        "type": "object",
        "description": T::ABOUT.trim(),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

/// The kind of value in words, for a section that may also be written as one of its fields.
pub(super) fn words<T: Section>(short: Option<&str>) -> String {
    match short_field::<T>(short) {
        Some(field) => format!("{}, or a table", field.words),
        None => "table".to_owned(),
    }
}

/// The schema of a section that may also be written as one of its fields.
pub(super) fn short_or_table<T: Section + schemars::JsonSchema>(
    short: Option<&str>,
    generator: &mut SchemaGenerator,
) -> Schema {
    let table = generator.subschema_for::<T>();
    match short_field::<T>(short) {
        Some(field) => json_schema!({ "anyOf": [(field.schema)(generator), table] }),
        None => table,
    }
}

fn short_field<T: Section>(short: Option<&str>) -> Option<Field> {
    let short = key(short?);
    T::fields().into_iter().find(|field| field.key == short)
}

/// Declares a section. A field is `name: Type = default,` or `name: Type = required,`; a section
/// `from FIELD` may also be written as the value of that field alone.
macro_rules! section {
    ($(#[doc = $about:literal])* pub struct $name:ident $(from $short:ident)? { $($body:tt)* }) => {
        section! { @sort [$([$about])*] $name [$($short)?] [] [] $($body)* }
    };

    // One field after the other, into `{ docs name: type [default] }` and the list of required ones.
    (@sort $about:tt $name:ident $short:tt [$($done:tt)*] [$($needed:tt)*]
        $(#[doc = $doc:literal])* $field:ident: $type:ty = required, $($rest:tt)*) => {
        section! { @sort $about $name $short
            [$($done)* { [$([$doc])*] $field: $type [] }]
            [$($needed)* { [$([$doc])*] $field: $type }] $($rest)* }
    };
    (@sort $about:tt $name:ident $short:tt [$($done:tt)*] $needed:tt
        $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, $($rest:tt)*) => {
        section! { @sort $about $name $short
            [$($done)* { [$([$doc])*] $field: $type [$default] }] $needed $($rest)* }
    };
    (@sort $about:tt $name:ident $short:tt $fields:tt $needed:tt) => {
        section! { @declare $about $name $fields }
        section! { @construct $name $needed $fields }
        section! { @read $name $short $needed $fields }
    };

    (@declare [$([$about:literal])*] $name:ident
        [$({ [$([$doc:literal])*] $field:ident: $type:ty [$($default:expr)?] })*]) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl $crate::config::Section for $name {
            const ABOUT: &'static str = concat!($($about),*);

            fn fields() -> Vec<$crate::config::Field> {
                vec![$($crate::config::Field {
                    key: $crate::config::section::key(stringify!($field)),
                    meaning: concat!($($doc),*),
                    words: <$type as $crate::config::read::Value>::words(),
                    required: section!(@required [$($default)?]),
                    default: section!(@written $type, [$($default)?]),
                    schema: <$type as $crate::config::read::Value>::schema,
                }),*]
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                $crate::config::section::schema::<$name>(generator)
            }
        }
    };

    (@construct $name:ident [] [$({ $doc:tt $field:ident: $type:ty [$default:expr] })*]) => {
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
    (@construct $name:ident [$({ $needed_doc:tt $needed:ident: $needed_type:ty })*]
        [$({ $doc:tt $field:ident: $type:ty [$($default:expr)?] })*]) => {
        impl $name {
            /// One with these values and the default of everything else.
            pub fn new($($needed: $needed_type),*) -> Self {
                Self { $($field: section!(@value $field [$($default)?]),)* }
            }
        }
    };

    (@read $name:ident [$($short:ident)?] $needed:tt
        [$({ $doc:tt $field:ident: $type:ty [$($default:expr)?] })*]) => {
        impl $crate::config::read::Value for $name {
            fn read(
                node: &$crate::config::read::Node<'_>,
                reader: &mut $crate::config::read::Reader<'_>,
            ) -> Option<Self> {
                section!(@shorthand $name, node, reader, $needed, [$($short)?]);
                let known = [$($crate::config::section::key(stringify!($field))),*];
                let Some(table) = reader.table(node, &known, &Self::words()) else {
                    return Self::blank();
                };
                Some(Self {
                    $($field: section!(@take reader, table, node, $field, $type, [$($default)?]),)*
                })
            }

            fn words() -> String {
                $crate::config::section::words::<$name>(section!(@short [$($short)?]))
            }

            fn schema(generator: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                let short = section!(@short [$($short)?]);
                $crate::config::section::short_or_table::<$name>(short, generator)
            }

            fn blank() -> Option<Self> {
                Some(Self { $($field: section!(@blank $type, [$($default)?]),)* })
            }
        }
    };

    (@required []) => { true };
    (@required [$default:expr]) => { false };
    (@written $type:ty, []) => { None };
    (@written $type:ty, [$default:expr]) => {{
        let default: $type = $default;
        $crate::config::section::written(&default)
    }};
    (@value $field:ident []) => { $field };
    (@value $field:ident [$default:expr]) => { $default };
    (@blank $type:ty, []) => { <$type as $crate::config::read::Value>::blank()? };
    (@blank $type:ty, [$default:expr]) => { $default };
    (@take $reader:ident, $table:ident, $node:ident, $field:ident, $type:ty, []) => {
        $reader.required::<$type>($table, $node, stringify!($field))?
    };
    (@take $reader:ident, $table:ident, $node:ident, $field:ident, $type:ty, [$default:expr]) => {
        match $reader.optional::<$type>($table, stringify!($field)) {
            Some(value) => value,
            None => $default,
        }
    };
    (@short []) => { None };
    (@short [$short:ident]) => { Some(stringify!($short)) };
    (@shorthand $name:ident, $node:ident, $reader:ident, $needed:tt, []) => {};
    (@shorthand $name:ident, $node:ident, $reader:ident, $needed:tt, [$short:ident]) => {
        let node = $node.get_ref();
        if node.is_str() || node.is_integer() || node.is_float() || node.is_array() {
            let value = $crate::config::read::Value::read($node, $reader);
            let value = value.or_else($crate::config::read::Value::blank)?;
            return Some(section!(@of_short $name, $short, value, $needed));
        }
    };
    (@of_short $name:ident, $short:ident, $value:ident, []) => {
        $name { $short: $value, ..$name::default() }
    };
    (@of_short $name:ident, $short:ident, $value:ident, $needed:tt) => {
        $name::new($value)
    };
}
