//! The fields of one message, in the order they came: one text that holds them line by line, as
//! HTTP/1 writes them, and a list of where each stands in it. It never checks what it is given;
//! whoever reads from a peer does. It is one text so that a head costs two buffers, which stay for
//! the next head, and lines so that what goes on unchanged is copied in few pieces.

use std::fmt;

use crate::Known;

/// What a buffer may keep when it is cleared.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const KEPT_FIELDS_MAX: usize = KEPT_BYTES_MAX / size_of::<Entry>();

/// What RFC 9113 section 6.5.2 adds for each field.
const FIELD_OVERHEAD_BYTES: usize = 32;

/// The fields of a head or of a trailer section; names keep the case they were sent in.
///
/// What is removed gives its room back at the next [`Fields::clear`]. Two are equal when they have
/// the same names, in the same case, and values in the same order.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    list: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the line begins: `name: value` and a line end.
    start: usize,
    name_length: usize,
    value_length: usize,
    known: Known,
}

/// One field, borrowed from [`Fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it was sent.
    pub name: &'a [u8],
    /// Without whitespace around it.
    pub value: &'a [u8],
    /// Which name this is.
    pub known: Known,
}

/// Between name and value.
const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

impl Fields {
    /// Adds a field behind the others; the caller vouches for [`crate::is_name`] and
    /// [`crate::is_value`].
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_known(Known::of(name), name, value);
    }

    /// The same for a name that the caller knows already.
    pub fn push_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert_eq!(known, Known::of(name));
        let start = self.text.len();
        self.text.reserve(name.len() + value.len() + COLON.len() + LINE_END.len());
        for part in [name, COLON, value, LINE_END] {
            self.text.extend_from_slice(part);
        }
        self.list.push(Entry { start, name_length: name.len(), value_length: value.len(), known });
    }

    /// The same for a field that `line` already holds as it is kept here: `name: value` and a line end.
    pub(crate) fn push_line(&mut self, known: Known, line: &[u8], name_length: usize) {
        let start = self.text.len();
        let value_length = line.len().saturating_sub(name_length + COLON.len() + LINE_END.len());
        self.text.extend_from_slice(line);
        self.list.push(Entry { start, name_length, value_length, known });
    }

    /// Appends all fields as lines of HTTP/1, but for those of one name.
    pub fn write_lines(&self, out: &mut Vec<u8>, without: Known) {
        let (mut from, mut to) = (0, 0);
        let mut write = |from: usize, to: usize| {
            out.extend_from_slice(self.text.get(from..to).unwrap_or_default());
        };
        for entry in self.list.iter().filter(|entry| entry.known != without) {
            // Lines that stand behind each other go together.
            if entry.start != to {
                write(from, to);
                from = entry.start;
            }
            to = entry.end();
        }
        write(from, to);
    }

    /// All fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.list.iter().map(|entry| entry.field(&self.text))
    }

    /// The value of the first field of this name.
    pub fn first(&self, known: Known) -> Option<&[u8]> {
        self.all(known).next()
    }

    /// The values of all fields of this name.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let these = self.list.iter().filter(move |entry| entry.known == known);
        these.map(|entry| entry.field(&self.text).value)
    }

    /// The values of all fields of this name, in any case of letters.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let these = self.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        these.map(|field| field.value)
    }

    /// Takes out every field of this name.
    pub fn remove(&mut self, known: Known) {
        self.list.retain(|entry| entry.known != known);
    }

    /// Takes out every field of this name, in any case of letters.
    pub fn remove_named(&mut self, name: &[u8]) {
        self.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }

    /// Keeps only the fields that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let text = &self.text;
        self.list.retain(|entry| keep(entry.field(text)));
    }

    /// Puts one field in the place of all of this name; it comes last.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove_named(name);
        self.push(name, value);
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes out everything and keeps the room for the next head, unless that is over 64 KiB.
    pub fn clear(&mut self) {
        empty(&mut self.text);
        self.list.clear();
        if self.list.capacity() > KEPT_FIELDS_MAX {
            self.list = Vec::new();
        }
    }

    /// The size of all fields in bytes as RFC 9113 counts it: names, values and 32 for each.
    pub fn size(&self) -> usize {
        let each = |entry: &Entry| entry.name_length + entry.value_length + FIELD_OVERHEAD_BYTES;
        self.list.iter().map(each).sum()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |field: Field<'_>| {
            format!("{}: {}", field.name.escape_ascii(), field.value.escape_ascii())
        };
        f.debug_list().entries(self.iter().map(shown)).finish()
    }
}

impl Entry {
    fn field<'a>(&self, text: &'a [u8]) -> Field<'a> {
        // Spans are made by `push` alone and the text only grows, so these are always there.
        let line = text.get(self.start..).unwrap_or_default();
        let (name, rest) = line.split_at_checked(self.name_length).unwrap_or_default();
        let value = rest.get(COLON.len()..COLON.len() + self.value_length).unwrap_or_default();
        Field { name, value, known: self.known }
    }

    fn end(&self) -> usize {
        self.start + self.name_length + COLON.len() + self.value_length + LINE_END.len()
    }
}

/// Clears a buffer and keeps its room, unless that is over 64 KiB.
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
}

/// The elements of a list between commas, trimmed; empty ones are skipped, and a comma within a
/// quoted string belongs to it (RFC 9110 section 5.6.1).
///
/// A quoted string that never ends reaches to the end of the value.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (element, after) = rest.split_at_checked(element_length(rest))?;
            rest = after.get(1..).unwrap_or_default();
            let element = crate::chars::trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    })
}

fn element_length(bytes: &[u8]) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let ends = |byte: &u8| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' => is_escaped = is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    };
    bytes.iter().position(ends).unwrap_or(bytes.len())
}
