//! From TOML values to typed ones: the `Value` trait and the reader that walks a file with it. It
//! never stops at a wrong value, so that one run of `check` shows everything there is to mend.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{self, Environment};
use super::problem::{Misread, Problems, Severity, nearest, shown};
use super::renamed::{self, Renamed};

/// A TOML value and where it stands.
pub(crate) type Node<'a> = Spanned<DeValue<'a>>;

/// Something that can stand to the right of a key.
pub(crate) trait Value: Sized {
    /// The value, or nothing once the reason has been reported.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// The kind of value, as it stands in messages and in the reference page.
    fn words() -> String;

    /// What an editor should accept here.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// What stands in for a required value that could not be read, so that the rest of its section
    /// is still looked at. A config holding one is never handed out.
    fn blank() -> Option<Self> {
        None
    }
}

/// Where a value stands: which source, and the bytes in it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: usize,
    pub(super) span: Range<usize>,
}

/// All that reading finds out besides the values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Problems,
    /// Where each key path was written.
    pub(super) places: HashMap<Vec<String>, Place>,
    /// The paths of values that could not be read: complaints about them would be echoes.
    pub(super) spoiled: Vec<Vec<String>>,
    /// Whether a whole file is missing: complaints about the rest would be guesses.
    pub(super) incomplete: bool,
}

/// Walks one file.
pub(crate) struct Reader<'a> {
    pub(super) source: usize,
    pub(super) folder: Option<&'a Path>,
    pub(super) environment: Environment<'a>,
    pub(super) path: Vec<String>,
    pub(super) findings: &'a mut Findings,
}

impl Reader<'_> {
    /// The entries of a table whose keys are declared; the undeclared ones are reported.
    pub(crate) fn table<'n>(
        &mut self,
        node: &'n Node<'_>,
        known: &[String],
        words: &str,
    ) -> Option<&'n DeTable<'n>> {
        let DeValue::Table(table) = node.get_ref() else {
            return self.mismatch(node, words);
        };
        for key in table.keys().filter(|key| !known.iter().any(|name| name == key.get_ref())) {
            let now = renamed::at(&self.path).find(|renamed| renamed.old == key.get_ref());
            if let Some(Renamed { old, new, .. }) = now {
                let (severity, said) = match table.contains_key(*new) {
                    true => (
                        Severity::Error,
                        format!("\"{old}\" is the old name of \"{new}\", which is here too"),
                    ),
                    false => (Severity::Warning, format!("\"{old}\" is called \"{new}\" now")),
                };
                let misread = Misread::new(said)
                    .advise(format!("write {new}: the next release does not know the old name"));
                self.findings.problems.add(self.source, key.span(), severity, misread);
                continue;
            }
            let (name, known) = (key.get_ref(), known.iter().map(String::as_str));
            let misread = match nearest(name, known.clone()) {
                Some(near) => Misread::new(format!(
                    "unknown key \"{}\", did you mean \"{near}\"?",
                    shown(name)
                )),
                None => Misread::new(format!("unknown key \"{}\"", shown(name)))
                    .advise(format!("the keys here are {}", known.collect::<Vec<_>>().join(", "))),
            };
            self.findings.problems.add(self.source, key.span(), Severity::Error, misread);
        }
        Some(table)
    }

    /// The value of a key that may be absent.
    pub(crate) fn optional<T: Value>(&mut self, table: &DeTable<'_>, field: &str) -> Option<T> {
        let key = super::section::key(field);
        let node = table.get(self.written(table, &key))?;
        self.below(key, node.span(), |reader| T::read(node, reader))
    }

    /// The value of a key that must be there; a blank one after its lack was reported.
    pub(crate) fn required<T: Value>(
        &mut self,
        table: &DeTable<'_>,
        node: &Node<'_>,
        field: &str,
    ) -> Option<T> {
        let key = super::section::key(field);
        if table.contains_key(self.written(table, &key)) {
            return self.optional(table, field).or_else(T::blank);
        }
        let misread = Misread::new(format!("\"{key}\" is missing"))
            .advise(format!("add {key} = ... ({})", T::words()));
        self.below(key, node.span(), |reader| reader.report(node.span(), misread));
        T::blank()
    }

    /// A key as the file has it, which may be by its old name.
    fn written<'k>(&self, table: &DeTable<'_>, key: &'k str) -> &'k str {
        let mut old = renamed::at(&self.path).filter(|renamed| renamed.new == key);
        match table.contains_key(key) {
            true => key,
            false => old.find_map(|it| table.contains_key(it.old).then_some(it.old)).unwrap_or(key),
        }
    }

    /// Reports what is wrong at this place, and remembers that its value cannot be judged further.
    pub(super) fn report(&mut self, span: Range<usize>, misread: Misread) {
        self.findings.problems.add(self.source, span, Severity::Error, misread);
        self.findings.spoiled.push(self.path.clone());
    }

    /// Reports a value of the wrong kind.
    pub(crate) fn mismatch<T>(&mut self, node: &Node<'_>, words: &str) -> Option<T> {
        let mut misread =
            Misread::new(format!("expected {words}, found {}", described(node.get_ref())));
        if let DeValue::String(text) = node.get_ref()
            && (text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok())
        {
            misread = misread.advise("write it without the quotes");
        }
        self.report(node.span(), misread);
        None
    }

    /// Goes one key down, for as long as `read` takes.
    pub(super) fn below<R>(
        &mut self,
        key: String,
        span: Range<usize>,
        read: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.path.push(key);
        let place = Place { source: self.source, span };
        self.findings.places.insert(self.path.clone(), place);
        let result = read(self);
        self.path.pop();
        result
    }

    /// A string with the environment filled in.
    pub(super) fn text(&mut self, node: &Node<'_>, words: &str) -> Option<String> {
        let DeValue::String(text) = node.get_ref() else {
            return self.mismatch(node, words);
        };
        match environment::fill(text, self.environment) {
            Ok(text) => Some(text.into_owned()),
            Err(misreads) => {
                for misread in misreads {
                    self.report(node.span(), misread);
                }
                None
            }
        }
    }

    /// A string read further by `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node<'_>,
        words: &str,
        parse: impl FnOnce(&str) -> Result<T, Misread>,
    ) -> Option<T> {
        let text = self.text(node, words)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(misread) => {
                self.report(node.span(), misread);
                None
            }
        }
    }

    /// The text of a value that is nothing but one `${NAME}`, so that numbers can come from there.
    fn reference(&mut self, node: &Node<'_>, words: &str) -> Option<Option<String>> {
        match node.get_ref() {
            DeValue::String(text) if environment::is_one_reference(text) => {
                self.text(node, words).map(Some)
            }
            _ => Some(None),
        }
    }

    fn number(&mut self, node: &Node<'_>, words: &str) -> Option<i128> {
        if let Some(text) = self.reference(node, words)? {
            return text.trim().parse().ok().or_else(|| {
                let found = format!("expected {words}, found \"{}\"", shown(&text));
                self.report(node.span(), Misread::new(found).advise("the environment says so"));
                None
            });
        }
        integer(node.get_ref()).or_else(|| self.mismatch(node, words))
    }
}

/// The integer that stands there, if it is one.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{}\"", shown(text)),
        DeValue::Integer(number) => format!("the integer {}", shown(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", shown(number.as_str())),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A schema that also takes a string naming the environment.
pub(super) fn or_environment(schema: Schema) -> Schema {
    json_schema!({ "anyOf": [schema, { "type": "string", "pattern": "\\$\\{" }] })
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let number = reader.number(node, &Self::words())?;
                <$type>::try_from(number).ok().or_else(|| {
                    let range = format!("{} to {}", <$type>::MIN, <$type>::MAX);
                    let number = shown(&number.to_string());
                    let misread = Misread::new(format!("{number} is out of range, which is {range}"));
                    reader.report(node.span(), misread);
                    None
                })
            }

            fn words() -> String {
                "integer".to_owned()
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                or_environment(json_schema!({
                    "type": "integer", "minimum": <$type>::MIN, "maximum": <$type>::MAX
                }))
            }
        }
    )*};
}
whole_number!(u16, u32);

impl Value for f64 {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let words = Self::words();
        let text = match node.get_ref() {
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Integer(_) => integer(node.get_ref()).unwrap_or(i128::MAX).to_string(),
            _ => match reader.reference(node, &words)? {
                Some(text) => text,
                None => return reader.mismatch(node, &words),
            },
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Some(number),
            _ => {
                let found = format!("expected {words}, found \"{}\"", shown(&text));
                reader.report(node.span(), Misread::new(found));
                None
            }
        }
    }

    fn words() -> String {
        "number".to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        or_environment(json_schema!({ "type": "number" }))
    }
}

impl Value for bool {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let words = Self::words();
        if let Some(text) = reader.reference(node, &words)? {
            return text.trim().parse().ok().or_else(|| {
                let found = format!("expected {words}, found \"{}\"", shown(&text));
                reader.report(node.span(), Misread::new(found).advise("the environment says so"));
                None
            });
        }
        node.get_ref().as_bool().or_else(|| reader.mismatch(node, &words))
    }

    fn words() -> String {
        "true or false".to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        or_environment(json_schema!({ "type": "boolean" }))
    }
}

impl Value for String {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, &Self::words())
    }

    fn words() -> String {
        "string".to_owned()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }

    fn blank() -> Option<Self> {
        Some(String::new())
    }
}

impl<T: Value> Value for Option<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn words() -> String {
        T::words()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// A list, or one value standing for a list of one.
impl<T: Value> Value for Vec<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(array) = node.get_ref() else {
            return Some(T::read(node, reader).or_else(T::blank).into_iter().collect());
        };
        let mut values = Vec::new();
        for (index, node) in array.iter().enumerate() {
            let read = |reader: &mut Reader<'_>| T::read(node, reader).or_else(T::blank);
            values.extend(reader.below(index.to_string(), node.span(), read));
        }
        Some(values)
    }

    fn words() -> String {
        format!("list of: {}", T::words())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }

    fn blank() -> Option<Self> {
        Some(Vec::new())
    }
}

/// Tables or strings by name, in the order in which they are written.
impl<T: Value> Value for IndexMap<String, T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.get_ref() else {
            return reader.mismatch(node, &Self::words());
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut values = IndexMap::new();
        for (key, node) in entries {
            let (name, span) = (key.get_ref().clone().into_owned(), key.span());
            let read = |reader: &mut Reader<'_>| T::read(node, reader).or_else(T::blank);
            if let Some(value) = reader.below(name.clone(), span, read) {
                values.insert(name, value);
            }
        }
        Some(values)
    }

    fn words() -> String {
        format!("{}s by name", T::words())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = T::schema(generator);
        json_schema!({ "type": "object", "additionalProperties": entry })
    }
}
