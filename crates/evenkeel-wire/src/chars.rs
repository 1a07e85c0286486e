//! Which bytes may stand where, by RFC 9110 section 5. One table answers for every byte, so that
//! a rule is a bit and not a chain of comparisons; nothing here knows what the bytes mean.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class(byte as u8);
        byte += 1;
    }
    table
}

const fn class(byte: u8) -> u8 {
    let is_visible = byte > b' ' && byte < 0x7f;
    let mut class = 0;
    if byte.is_ascii_alphanumeric() || is_any_of(byte, b"!#$%&'*+-.^_`|~") {
        class |= TOKEN;
    }
    if is_visible || byte >= 0x80 || byte == b' ' || byte == b'\t' {
        class |= VALUE;
    }
    // Browsers send `|`, `[`, `{`, `^`, quotes and backticks as they are, though RFC 3986 would
    // have them encoded. `#` and the backslash are read in two ways, so they are not let through.
    if is_visible && !is_any_of(byte, b"#\\") {
        class |= TARGET;
    }
    // The reg-name of RFC 3986 without the comma, which some read as a list, and without percent
    // encoding, which would spell one name in many ways.
    if byte.is_ascii_alphanumeric() || is_any_of(byte, b"-._~!$&'()*+;=") {
        class |= HOST;
    }
    class
}

const fn is_any_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

fn are_all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & class != 0)
}

/// Whether the bytes can be the name of a field: a token, which is never empty.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && are_all(name, TOKEN)
}

/// Whether the bytes can be the value of a field: no controls but a tab within, and no whitespace
/// at either end. It may be empty.
pub fn is_value(value: &[u8]) -> bool {
    are_all(value, VALUE) && trim(value).len() == value.len()
}

/// How many bytes at the beginning could be those of a token.
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| CLASSES[usize::from(**byte)] & TOKEN != 0).count()
}

/// Whether all bytes may stand inside a value, a reason phrase or a chunk extension.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    are_all(bytes, VALUE)
}

/// Whether all bytes may stand in a path or query, and every percent begins two hex digits.
pub(crate) fn is_path(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        if CLASSES[usize::from(*first)] & TARGET == 0 {
            return false;
        }
        if *first == b'%' {
            match after {
                [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {}
                _ => return false,
            }
        }
    }
    true
}

/// Whether the bytes can be a registered name or an IPv4 address.
pub(crate) fn is_host(bytes: &[u8]) -> bool {
    !bytes.is_empty() && are_all(bytes, HOST)
}

/// The bytes without spaces and tabs at either end.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    while let [before @ .., b' ' | b'\t'] = rest {
        rest = before;
    }
    rest
}
