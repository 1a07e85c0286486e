//! Fields, methods and reasons as values: what goes in comes out, and names have one number.

use evenkeel_wire::{Fields, Known, Method, Reason, elements, is_name, is_value};

fn some() -> Fields {
    let mut fields = Fields::default();
    for (name, value) in [("Via", "1"), ("X-A", "2"), ("VIA", "3"), ("x-a", ""), ("Age", "5")] {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

fn written(fields: &Fields) -> String {
    let each = fields
        .iter()
        .map(|field| format!("{}={};", field.name.escape_ascii(), field.value.escape_ascii()));
    each.collect()
}

#[test]
fn fields_keep_order_and_case_and_are_found_in_any_case() {
    let fields = some();
    assert_eq!(written(&fields), "Via=1;X-A=2;VIA=3;x-a=;Age=5;");
    assert_eq!(fields.first(Known::Via), Some(b"1".as_slice()));
    assert_eq!(fields.all(Known::Via).collect::<Vec<_>>(), [b"1", b"3"]);
    assert_eq!(fields.named(b"X-a").collect::<Vec<_>>(), [b"2".as_slice(), b""]);
    assert_eq!(fields.first(Known::Host), None);
    assert_eq!((fields.len(), fields.is_empty()), (5, false));
    assert_eq!(fields.size(), 3 * 4 + 3 + 1 + 1 + 1 + 1 + 5 * 32);
}

#[test]
fn fields_are_removed_set_and_cleared() {
    let mut fields = some();
    fields.remove(Known::Via);
    assert_eq!(written(&fields), "X-A=2;x-a=;Age=5;");
    fields.set(b"X-a", b"7");
    assert_eq!(written(&fields), "Age=5;X-a=7;");
    fields.retain(|field| field.value != b"5");
    assert_eq!(written(&fields), "X-a=7;");
    fields.remove_named(b"x-A");
    assert!(fields.is_empty());
    let mut fields = some();
    fields.clear();
    assert_eq!((fields.len(), fields.size(), written(&fields).as_str()), (0, 0, ""));
}

#[test]
fn every_known_name_is_found_in_any_case() {
    for known in Known::ALL {
        let name = known.name();
        assert!(is_name(name.as_bytes()));
        assert_eq!(Known::of(name.as_bytes()), *known);
        assert_eq!(Known::of(name.to_uppercase().as_bytes()), *known);
        assert_eq!(Known::of(format!("{name}x").as_bytes()), Known::Other);
        assert_eq!(Known::of(&name.as_bytes()[1..]), Known::Other, "{name}");
    }
    for name in ["", "hos", "host\0", "h\u{f3}st", "content_length", &"x".repeat(100)] {
        assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
    }
    // A byte that differs from a letter only in the bit that makes it lower case.
    assert_eq!(Known::of(b"content\x0dlength"), Known::Other);
    assert_eq!(Known::of(b"\x48OST"), Known::Host);
    assert_eq!(Known::of(b"\x08OST"), Known::Other);
}

#[test]
fn names_are_tokens_and_values_have_no_controls() {
    for byte in 0..=u8::MAX {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_name(&[b'a', byte]), is_token, "{byte}");
        assert_eq!(is_value(&[b'a', byte, b'b']), byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
    }
    assert!(!is_name(b"") && is_value(b""));
    for edge in [" a", "a ", "\ta", "a\t", " "] {
        assert!(!is_value(edge.as_bytes()), "{edge:?}");
    }
}

#[test]
fn lists_fall_into_their_elements() {
    let split = |value: &'static str| -> Vec<String> {
        elements(value.as_bytes()).map(|e| String::from_utf8_lossy(e).into_owned()).collect()
    };
    assert_eq!(split("a, b,c"), ["a", "b", "c"]);
    assert_eq!(split(" ,, a\t, ,b ,"), ["a", "b"]);
    assert_eq!(split(""), [""; 0]);
    assert_eq!(split("a=\"b, \\\", c\", d"), ["a=\"b, \\\", c\"", "d"]);
    assert_eq!(split("\"a, b"), ["\"a, b"]);
    assert_eq!(split("a\\,b"), ["a\\", "b"]);
}

#[test]
fn methods_are_tokens_told_apart_by_case() {
    for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"] {
        let method = Method::of(name.as_bytes()).unwrap();
        assert!(!matches!(method, Method::Other(_)));
        assert_eq!(method.to_string(), name);
    }
    assert_eq!(Method::of(b"get"), Some(Method::Other((*b"get").into())));
    let longest = [b'A'; Method::BYTES_MAX];
    assert!(Method::of(&longest).is_some());
    assert_eq!(Method::of(&[b'A'; Method::BYTES_MAX + 1]), None);
    for wrong in ["", "G ET", "GET\0", "G\u{e9}T", "G:T"] {
        assert_eq!(Method::of(wrong.as_bytes()), None, "{wrong:?}");
    }
    assert!(Method::Head.is_safe() && !Method::Put.is_safe());
    assert!(Method::Put.is_idempotent() && !Method::Post.is_idempotent());
    assert!(!Method::of(b"get").unwrap().is_idempotent());
}

#[test]
fn every_reason_has_its_own_word_and_a_status_of_a_refusal() {
    let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    words.sort();
    words.dedup();
    assert_eq!(words.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        assert!(reason.as_str().chars().all(is_kebab), "{reason}");
        assert!([400, 413, 414, 417, 431, 501, 505].contains(&reason.status()), "{reason}");
        assert!(!reason.meaning().ends_with('.') && !reason.meaning().is_empty());
    }
}
