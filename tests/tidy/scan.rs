//! Scanners for `tidy.rs`: plain text in, places out. They read Rust well enough to judge style, and no better.
//! They must never touch a file: reading and judging is the caller's, so that each can be tried on a small string.
//! All but `blank` expect code that `blank` has been over, in which every offset and line is that of the original.

/// The same text, byte for byte as long, with comments, strings and character literals turned into spaces.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'r' if !is_within_word(bytes, at) => end_of_raw_string(bytes, at),
            b'"' => end_of_quoted(bytes, at, b'"'),
            b'\'' => end_of_char(text, at),
            _ => at,
        };
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    bytes[from..].windows(what.len()).position(|w| w == what).map_or(bytes.len(), |n| from + n)
}

/// Whether the `r` at `at` only ends a longer name; `br"` and `cr"` begin raw strings too.
fn is_within_word(bytes: &[u8], at: usize) -> bool {
    let word = |n: usize| at >= n && is_word(bytes[at - n]);
    word(1) && (word(2) || !matches!(bytes[at - 1], b'b' | b'c'))
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_raw_string(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let quote = start + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return start;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    (find(bytes, quote + 1, &close) + close.len()).min(bytes.len())
}

fn end_of_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character literal, or `start` when the quote begins a lifetime.
fn end_of_char(text: &str, start: usize) -> usize {
    let mut rest = text[start + 1..].chars();
    match rest.next() {
        Some('\\') => end_of_quoted(text.as_bytes(), start, b'\''),
        Some(c) if rest.next() == Some('\'') => start + 2 + c.len_utf8(),
        _ => start,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Every name and keyword with its offset.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = code.as_bytes();
        let start = at + bytes[at..].iter().position(|byte| is_word(*byte))?;
        at = start + bytes[start..].iter().take_while(|byte| is_word(**byte)).count();
        Some((start, &code[start..at]))
    })
}

/// The number of the line that `offset` is on, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// A function with a body: its name, the line of its `fn`, and how many lines it has from there to its brace.
#[derive(Debug, PartialEq)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Every function that has a body, nested ones and those written inside macros too.
pub(crate) fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    for (at, name) in names_after(code, &["fn"]) {
        let Some(open) = body_of(code, at) else { continue };
        let line = line_of(code, at);
        found.push(Function { name, line, lines: line_of(code, closing(code, open)) - line + 1 });
    }
    found
}

/// What is declared with one of `keywords`: the offset of the keyword and the name after it.
pub(crate) fn names_after<'a>(code: &'a str, keywords: &[&str]) -> Vec<(usize, &'a str)> {
    let all: Vec<_> = words(code).collect();
    let pairs = all.windows(2).filter(|pair| keywords.contains(&pair[0].1));
    let between = |pair: &[(usize, &str)]| code[pair[0].0 + pair[0].1.len()..pair[1].0].trim();
    pairs.filter(|pair| between(pair).is_empty()).map(|pair| (pair[0].0, pair[1].1)).collect()
}

/// The first `{` after `from` that is not inside brackets, unless a `;` comes first.
fn body_of(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The `}` that closes the `{` at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The same code with inline `#[cfg(test)] mod x { ... }` blanked, and how many lines those had.
pub(crate) fn without_tests(code: &str) -> (String, usize) {
    let (mut out, mut lines, mut past) = (code.as_bytes().to_vec(), 0, 0);
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let module = names_after(&code[at..], &["mod"]).first().map(|(n, _)| at + n);
        let Some(module) =
            module.filter(|m| at >= past && only_attributes(&code[at + attribute.len()..*m]))
        else {
            continue;
        };
        let Some(open) = body_of(code, module) else { continue };
        past = closing(code, open);
        lines += line_of(code, past) - line_of(code, at) + 1;
        out[at..past].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    (String::from_utf8(out).expect("whole characters are blanked"), lines)
}

fn only_attributes(code: &str) -> bool {
    let rest = code.trim().trim_end_matches("pub(crate)").trim_end_matches("pub").trim();
    rest.is_empty() || (rest.starts_with("#[") && rest.ends_with(']'))
}

/// The first names after each `root::`, as in `root::a::b` and `use root::{a::b, c}`.
pub(crate) fn imports<'a>(code: &'a str, root: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let rest = code[at + word.len()..].trim_start();
        // `x::crate` names something else: only what begins a path counts.
        if word != root || !rest.starts_with("::") || code[..at].trim_end().ends_with("::") {
            continue;
        }
        let start = code.len() - rest.len() + 2;
        match rest[2..].trim_start().starts_with('{') {
            true => found.extend(first_names(code, start)),
            false => found.extend(words(&code[start..]).next().map(|(n, name)| (start + n, name))),
        }
    }
    found
}

/// The names that begin each part of the `{a::b, c::{d, e}}` after `from`.
fn first_names(code: &str, from: usize) -> Vec<(usize, &str)> {
    let open = from + code[from..].find('{').unwrap_or(0);
    let (mut depth, mut begins, mut found) = (0, false, Vec::new());
    for (at, byte) in code.bytes().enumerate().take(closing(code, open)).skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b' ' | b'\n' => continue,
            b',' => {}
            _ if begins && depth == 1 => {
                found.extend(words(&code[at..]).next().map(|(n, name)| (at + n, name)))
            }
            _ => {}
        }
        begins = depth == 1 && matches!(byte, b'{' | b',');
    }
    found
}

/// The lowercase parts of a name: `TlsHandler`, `tls_handler` and `tls-handler` are all `tls`, `handler`.
pub(crate) fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c.is_uppercase() || !c.is_alphanumeric() {
            parts.push(String::new());
        }
        if c.is_alphanumeric() {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Whether the `unsafe` on `line` (from 1) has a `SAFETY:` comment on it or right above its statement.
pub(crate) fn has_safety_comment(text: &str, line: usize) -> bool {
    let lines: Vec<_> = text.lines().take(line).map(str::trim).collect();
    let Some((this, above)) = lines.split_last() else { return false };
    let begun = |l: &str| !l.is_empty() && !l.ends_with([';', '{', '}', ',']);
    let is_note = |l: &str| l.starts_with("//") || l.starts_with("#[");
    let statement = above.iter().rev().skip_while(|l| !is_note(l) && begun(l));
    this.contains("SAFETY:") || statement.take_while(|l| is_note(l)).any(|l| l.contains("SAFETY:"))
}

/// Where `needle` stands as a path of its own: not as the tail of a longer path, an address or a variable's.
pub(crate) fn paths<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_longer = |c: char| c.is_alphanumeric() || "/._-~}])".contains(c);
    let hits = text.match_indices(needle).map(|(at, _)| at);
    hits.filter(move |at| !text[..*at].ends_with(is_longer))
}

/// The targets of Markdown links and images, without `#anchor` and title: `[a](docs/b.md#c "d")` is `docs/b.md`.
pub(crate) fn links(markdown: &str) -> impl Iterator<Item = &str> {
    let targets =
        markdown.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.map(|target| target.trim_start_matches("./"))
}

#[test]
fn blanking_keeps_lengths_and_lines_and_takes_comments_strings_and_characters() {
    let code = "a(\"}\\\"fn\", 'x', '\\'', b\"{\"); // fn b\n/* { /* } */ */ let l: &'a str = r#\"\"fn\"#;";
    let blanked = blank(code);
    assert_eq!(blanked.len(), code.len());
    let left: Vec<_> = blanked.split_whitespace().collect();
    assert_eq!(left.join(" "), "a( , , , b ); let l: &'a str = ;");
    assert_eq!(
        blank("r#type // é\nfor\"é\"x").split_whitespace().collect::<Vec<_>>(),
        ["r#type", "for", "x"]
    );
    assert_eq!(blank("br##\"\"#\"## y \"open").trim_end(), "b          y");
}

#[test]
fn a_function_is_counted_from_its_fn_to_its_brace() {
    let code = "fn a(x: [u8; 2]) -> u8\nwhere\n    T: X,\n{\n    { }\n}\ntrait T { fn none(&self); }\nfn b() {}\nlet f: fn(u8) = b;";
    let a = Function { name: "a", line: 1, lines: 6 };
    let b = Function { name: "b", line: 8, lines: 1 };
    assert_eq!(functions(code), [a, b]);
}

#[test]
fn inline_test_modules_are_not_counted() {
    let code = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod elsewhere;\n#[cfg(test)]\nfn d() {}\nmod kept {\n}\n";
    let (left, lines) = without_tests(code);
    assert_eq!(lines, 5);
    assert_eq!(functions(&left).iter().map(|f| f.name).collect::<Vec<_>>(), ["a", "c", "d"]);
}

#[test]
fn imports_are_seen_in_paths_and_in_groups() {
    let code = "use crate::{a::{b, c}, d, e as f};\nlet x = crate::g::h(); pub(in crate::i) fn x() {} y::crate::z;";
    let names: Vec<_> = imports(code, "crate").into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "d", "e", "g", "i"]);
    assert_eq!(imports("crate :: {\n    a::B,\n    c,\n}", "crate").len(), 2);
}

#[test]
fn names_fall_into_their_parts() {
    assert_eq!(parts("TlsHandler"), ["tls", "handler"]);
    assert_eq!(parts("into_inner2"), ["into", "inner2"]);
    assert_eq!(parts("h2"), ["h2"]);
}

#[test]
fn a_safety_comment_must_stand_above_the_statement() {
    assert!(has_safety_comment("// SAFETY: owned\nlet x =\n    unsafe { y() };", 3));
    assert!(has_safety_comment("// SAFETY: owned,\n// and open\n#[cold]\nunsafe { y() }", 4));
    assert!(!has_safety_comment("// SAFETY: of another\nz();\nunsafe { y() }", 3));
    assert!(!has_safety_comment("// why not\nunsafe { y() }", 2));
}

#[test]
fn a_path_counts_only_where_it_begins() {
    assert_eq!(paths("see `/srv/x` or /srv/y", "/srv/").count(), 2);
    assert_eq!(paths("$HOME/srv/x https://a.test/srv/ ../srv/ ${D}/srv/", "/srv/").count(), 0);
}

#[test]
fn links_lose_their_anchor_and_title() {
    assert_eq!(links("[a](./b.md#c) ![d](e.svg \"f\") (g)").collect::<Vec<_>>(), ["b.md", "e.svg"]);
}
