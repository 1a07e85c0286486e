//! What a pick leaves behind, and its shape in a ring: everything that the pick was made of, in few words. It must be enough to make
//! the same pick again bit for bit; where it is not, the record says that it is partial.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use evenkeel_balance::{Ask, hash_bytes};
use serde::{Deserialize, Serialize};

/// Members whose loads are in a record at most; beyond, it is partial.
pub(crate) const READS_MAX: usize = 256;
/// Latencies at most: four members are compared by them, or two, and few more looked at.
pub(crate) const LATENCIES_MAX: usize = 32;
const TRIED_MAX: usize = 255;

/// The words before those whose number differs.
const FIXED: usize = 12;

const KIND_PICK: u8 = 1;
const KIND_END: u8 = 2;
const KIND_NOTE: u8 = 3;

const DENSE: u8 = 1 << 3;
const PARTIAL: u8 = 1 << 4;
const SESSION: u8 = 1 << 5;
const HASHED_ID: u8 = 1 << 6;
const TOTAL: u8 = 1 << 7;

const NOBODY: u32 = u32::MAX;

/// For whom a pick is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Asker {
    /// The plan by which it was led to the upstream.
    pub(crate) plan: u32,
    /// The place of its listener in that plan.
    pub(crate) listener: u16,
    /// The number of the route that it took, counted from 1; 0 without one.
    pub(crate) route: u16,
    pub(crate) client: Option<IpAddr>,
    /// Of an HTTP request.
    pub(crate) request: Option<RequestKey>,
}

/// The id of a request: its 32 digits where it has such, as ours have, else a hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    /// In two halves, which need less room where they are kept.
    high: u64,
    low: u64,
    is_hashed: bool,
}

impl RequestKey {
    pub(crate) fn of(id: &str) -> RequestKey {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let half = |half: &[u8]| {
            half.iter().try_fold(0_u64, |bits, byte| Some(bits << 4 | u64::from(digit(*byte)?)))
        };
        if let Some((high, low)) = id.as_bytes().split_at_checked(16)
            && low.len() == 16
            && let (Some(high), Some(low)) = (half(high), half(low))
        {
            return RequestKey { high, low, is_hashed: false };
        }
        RequestKey { high: 0, low: hash_bytes(id.as_bytes()), is_hashed: true }
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_hashed {
            true => write!(f, "~{:016x}", self.low),
            false => write!(f, "{:016x}{:016x}", self.high, self.low),
        }
    }
}

impl FromStr for RequestKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<RequestKey, Self::Err> {
        let digits = text.strip_prefix('~');
        let bits = u128::from_str_radix(digits.unwrap_or(text), 16)?;
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        Ok(RequestKey { high, low, is_hashed: digits.is_some() })
    }
}

impl Serialize for RequestKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestKey {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<RequestKey, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a pick came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A place was taken there.
    Taken,
    /// It had filled up by then; another pick follows.
    FilledUp,
    NobodyLeft,
    AllFull,
    NotYetKnown,
}

impl Outcome {
    const ALL: [Outcome; 5] = [
        Outcome::Taken,
        Outcome::FilledUp,
        Outcome::NobodyLeft,
        Outcome::AllFull,
        Outcome::NotYetKnown,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Taken => "taken",
            Outcome::FilledUp => "filled up meanwhile",
            Outcome::NobodyLeft => "nobody is usable",
            Outcome::AllFull => "all are full",
            Outcome::NotYetKnown => "nobody is known yet",
        }
    }
}

/// What the loads were that a pick has looked at; each member once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reads {
    /// By the number of the member: what was open there.
    pub(crate) opens: Vec<(u32, u32)>,
    /// The bits of its latency in seconds, so that nothing is rounded.
    pub(crate) latencies: Vec<(u32, u64)>,
    /// The sum over all, if it was asked for.
    pub(crate) total: Option<u64>,
    /// More was read than a record holds.
    pub(crate) is_partial: bool,
}

/// A pick, to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted<'a> {
    pub(crate) asker: &'a Asker,
    /// The number of the line-up.
    pub(crate) line_up: u32,
    pub(crate) ask: &'a Ask<'a>,
    /// Whether the client has a session, also where it could not go on.
    pub(crate) has_session: bool,
    pub(crate) picked: Option<u32>,
    pub(crate) outcome: Outcome,
}

/// A pick, as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pick {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) worker: u16,
    /// Where it stands in the ring of its worker.
    pub(crate) position: u64,
    pub(crate) asker: Asker,
    pub(crate) line_up: u32,
    pub(crate) ticket: u64,
    pub(crate) seed: u64,
    pub(crate) key: u64,
    pub(crate) tried: Vec<u32>,
    pub(crate) preferred: Option<u32>,
    pub(crate) has_session: bool,
    pub(crate) picked: Option<u32>,
    pub(crate) outcome: Outcome,
    pub(crate) reads: Reads,
}

/// The end of what a pick began: its place is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at: u64,
    /// Where the pick stands.
    pub(crate) worker: u16,
    pub(crate) position: u64,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Pick(Box<Pick>),
    End(End),
    /// JSON of something that changes seldom.
    Note(Vec<u8>),
}

/// Writes a pick into an empty buffer.
pub(crate) fn pick(into: &mut Vec<u64>, at: u64, position: u64, noted: &Noted<'_>, reads: &Reads) {
    let Noted { asker, line_up, ask, has_session, picked, outcome } = *noted;
    let tried = &ask.tried[..ask.tried.len().min(TRIED_MAX)];
    // Without a branch for each, as there may be many.
    let (mut largest, mut is_dense) = (0, true);
    for (place, (index, open)) in (0..).zip(&reads.opens) {
        largest |= index | open;
        is_dense &= place == *index;
    }
    let is_too_big = largest > u32::from(u16::MAX);
    let is_partial = reads.is_partial || tried.len() < ask.tried.len() || is_too_big;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = outcome as u8
        | flag(is_dense, DENSE)
        | flag(is_partial, PARTIAL)
        | flag(has_session, SESSION)
        | flag(asker.request.is_some_and(|request| request.is_hashed), HASHED_ID)
        | flag(reads.total.is_some(), TOTAL);
    let counts = reads.opens.len() as u64
        | (reads.latencies.len() as u64) << 16
        | (tried.len() as u64) << 24
        | u64::from(line_up) << 32;
    let place = u64::from(asker.listener) | u64::from(asker.route) << 16;
    let client = asker.client.map_or(0, |client| match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    });
    let request = asker.request.map_or([0, 0], |request| [request.high, request.low]);
    let halves = |wide: u128| [(wide >> 64) as u64, wide as u64];
    let pair = u64::from(picked.unwrap_or(NOBODY));
    into.extend([0, at, place | u64::from(asker.plan) << 32, counts]);
    into.extend([pair | u64::from(ask.preferred.unwrap_or(NOBODY)) << 32]);
    into.extend([ask.ticket, ask.seed, ask.key]);
    into.extend(halves(client));
    into.extend(request);
    pack_opens(into, &reads.opens, is_dense);
    into.extend(reads.latencies.iter().flat_map(|(index, bits)| [u64::from(*index), *bits]));
    into.extend(
        tried
            .chunks(2)
            .map(|two| u64::from(two[0]) | two.get(1).map_or(0, |second| u64::from(*second) << 32)),
    );
    into.extend(reads.total);
    close(into, KIND_PICK, flags, position);
}

fn pack_opens(into: &mut Vec<u64>, opens: &[(u32, u32)], is_dense: bool) {
    let small = |number: u32| u64::from(number.min(u32::from(u16::MAX)));
    let pack = |parts: [u64; 4]| parts[0] | parts[1] << 16 | parts[2] << 32 | parts[3] << 48;
    if is_dense {
        let (fours, rest) = opens.as_chunks::<4>();
        into.extend(fours.iter().map(|four| pack(four.map(|open| small(open.1)))));
        if !rest.is_empty() {
            let part = |at: usize| rest.get(at).map_or(0, |open| small(open.1));
            into.push(pack([part(0), part(1), part(2), 0]));
        }
    } else {
        into.extend(opens.chunks(2).map(|two| {
            let part =
                |at: usize| two.get(at).map_or((0, 0), |open| (small(open.0), small(open.1)));
            let ((first, one), (second, other)) = (part(0), part(1));
            pack([first, one, second, other])
        }));
    }
}

/// Writes the end of what a pick began.
pub(crate) fn end(into: &mut Vec<u64>, at: u64, position: u64, mark: Mark) {
    into.extend([0, at, mark.0]);
    close(into, KIND_END, 0, position);
}

/// Writes a note.
pub(crate) fn note(into: &mut Vec<u64>, position: u64, json: &[u8]) {
    into.extend([0, json.len() as u64]);
    into.extend(json.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    }));
    close(into, KIND_NOTE, 0, position);
}

/// Gives a record its first word, and its last: by that one it is found from its end.
fn close(record: &mut Vec<u64>, kind: u8, flags: u8, position: u64) {
    let length = record.len() as u64 + 1;
    if let Some(first) = record.first_mut() {
        *first = length | u64::from(kind) << 32 | u64::from(flags) << 40;
    }
    record.push(length | (position & 0xffff_ffff) << 32);
}

/// How long the record is that ends at a position, by its last word.
pub(crate) fn length(end: u64, last: u64) -> Option<usize> {
    let length = last & 0xffff_ffff;
    let start = end.checked_sub(length)?;
    (length > 3 && start & 0xffff_ffff == last >> 32).then_some(length as usize)
}

/// Where a pick stands, in one number; 0 is nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn new(worker: u16, position: u64) -> Mark {
        Mark(u64::from(worker) << 48 | ((position + 1) & 0xffff_ffff_ffff))
    }

    pub(crate) fn is_nowhere(self) -> bool {
        self.0 == 0
    }
}

impl Record {
    /// Reads a record of a worker; none if it is not one.
    pub(crate) fn read(words: &[u64], worker: u16, position: u64) -> Option<Record> {
        let (first, body) = words.split_first()?;
        let (kind, flags) = ((first >> 32) as u8, (first >> 40) as u8);
        if first & 0xffff_ffff != words.len() as u64 {
            return None;
        }
        match kind {
            KIND_PICK => read_pick(words, flags, worker, position).map(Box::new).map(Record::Pick),
            KIND_END => {
                let (at, mark) = (*body.first()?, *body.get(1)?);
                let worker = (mark >> 48) as u16;
                let position = (mark & 0xffff_ffff_ffff).checked_sub(1)?;
                Some(Record::End(End { at, worker, position }))
            }
            KIND_NOTE => {
                let length = usize::try_from(*body.first()?).ok()?;
                let words = body.get(1..body.len().checked_sub(1)?)?;
                let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                if length > bytes.len() {
                    return None;
                }
                bytes.truncate(length);
                Some(Record::Note(bytes))
            }
            _ => None,
        }
    }
}

fn read_pick(words: &[u64], flags: u8, worker: u16, position: u64) -> Option<Pick> {
    let fixed: &[u64; FIXED] = words.first_chunk()?;
    let [_, at, place, counts, pair, ticket, seed, key, client_high, client_low, high, low] =
        *fixed;
    let mut rest = words.get(FIXED..words.len().checked_sub(1)?)?.iter().copied();
    let (reads, latencies) = ((counts & 0xffff) as usize, (counts >> 16 & 0xff) as usize);
    let tried = (counts >> 24 & 0xff) as usize;
    let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    let opens = unpack_opens(&mut rest, reads, flags & DENSE != 0)?;
    let mut read_latencies = Vec::new();
    for _ in 0..latencies {
        read_latencies.push((rest.next()? as u32, rest.next()?));
    }
    let mut read_tried = Vec::new();
    for _ in 0..tried.div_ceil(2) {
        let two = rest.next()?;
        read_tried.extend([two as u32, (two >> 32) as u32]);
    }
    read_tried.truncate(tried);
    let total = if flags & TOTAL == 0 { None } else { Some(rest.next()?) };
    let client = whole(client_high, client_low);
    let is_request = (high, low) != (0, 0);
    let somebody = |index: u64| Some(index as u32).filter(|index| *index != NOBODY);
    let is_hashed = flags & HASHED_ID != 0;
    Some(Pick {
        at,
        worker,
        position,
        asker: Asker {
            plan: (place >> 32) as u32,
            listener: place as u16,
            route: (place >> 16) as u16,
            client: (client != 0).then(|| IpAddr::V6(Ipv6Addr::from_bits(client)).to_canonical()),
            request: is_request.then_some(RequestKey { high, low, is_hashed }),
        },
        line_up: (counts >> 32) as u32,
        ticket,
        seed,
        key,
        tried: read_tried,
        preferred: somebody(pair >> 32),
        has_session: flags & SESSION != 0,
        picked: somebody(pair & 0xffff_ffff),
        outcome: *Outcome::ALL.get(usize::from(flags & 0b111))?,
        reads: Reads { opens, latencies: read_latencies, total, is_partial: flags & PARTIAL != 0 },
    })
}

fn unpack_opens(
    words: &mut impl Iterator<Item = u64>,
    count: usize,
    is_dense: bool,
) -> Option<Vec<(u32, u32)>> {
    let part = |word: u64, at: u32| (word >> (16 * at)) as u16;
    let mut opens = Vec::new();
    if is_dense {
        for _ in 0..count.div_ceil(4) {
            let word = words.next()?;
            opens.extend((0..4).map(|at| u32::from(part(word, at))));
        }
        opens.truncate(count);
        return Some((0..).zip(opens).collect());
    }
    let mut pairs = Vec::new();
    for _ in 0..count.div_ceil(2) {
        let word = words.next()?;
        let pair = |at: u32| (u32::from(part(word, at)), u32::from(part(word, at + 1)));
        pairs.extend([pair(0), pair(2)]);
    }
    pairs.truncate(count);
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        proptest::sample::select(&Outcome::ALL[..])
    }

    proptest! {
        #[test]
        fn a_pick_is_read_as_it_was_written(
            (at, position, ticket, seed, key) in any::<(u64, u64, u64, u64, u64)>(),
            (plan, listener, route, line_up) in any::<(u32, u16, u16, u32)>(),
            client in any::<Option<IpAddr>>(),
            id in proptest::option::of("[0-9a-f]{32}|[a-z]{1,40}"),
            opens in proptest::collection::vec(any::<(u16, u16)>(), 0..40),
            is_dense in any::<bool>(),
            latencies in proptest::collection::vec(any::<(u32, u64)>(), 0..5),
            tried in proptest::collection::vec(0..1000_u32, 0..6),
            (picked, preferred, total) in any::<(Option<u16>, Option<u16>, Option<u64>)>(),
            (has_session, outcome) in (any::<bool>(), outcome()),
        ) {
            let number = |(place, open): (usize, &(u16, u16))| {
                (if is_dense { place as u32 } else { u32::from(open.0) }, u32::from(open.1))
            };
            let opens: Vec<_> = opens.iter().enumerate().map(number).collect();
            let reads = Reads { opens, latencies, total, is_partial: false };
            // An address of zeros is as good as none.
            let client = client.map(|client| client.to_canonical());
            let client = client.filter(|client| *client != IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let request = id.as_deref().map(RequestKey::of).filter(|request| (request.high, request.low) != (0, 0));
            let asker = Asker { plan, listener, route, client, request };
            let (picked, preferred) = (picked.map(u32::from), preferred.map(u32::from));
            let ask = Ask { key, tried: &tried, preferred, ticket, seed };
            let noted = Noted { asker: &asker, line_up, ask: &ask, has_session, picked, outcome };
            let mut words = Vec::new();
            pick(&mut words, at, position, &noted, &reads);
            let end = position.wrapping_add(words.len() as u64);
            if end > position {
                prop_assert_eq!(length(end, *words.last().unwrap()), Some(words.len()));
            }
            let read = Record::read(&words, 3, position);
            let expected = Pick {
                at, worker: 3, position, asker, line_up, ticket, seed, key, tried: tried.clone(), preferred,
                has_session, picked, outcome, reads,
            };
            prop_assert_eq!(read, Some(Record::Pick(Box::new(expected.clone()))));
            let json = serde_json::to_string(&expected).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pick>(&json).unwrap(), expected);
        }

        #[test]
        fn no_words_are_a_reason_to_panic(words in proptest::collection::vec(any::<u64>(), 0..40), kind in 0..5_u64) {
            let mut words = words;
            let length = words.len() as u64;
            if let Some(first) = words.first_mut() {
                *first = length | kind << 32 | *first & !0xff_ffff_ffff;
            }
            let _ = Record::read(&words, 0, 0);
        }
    }

    #[test]
    fn what_does_not_fit_makes_a_record_partial() {
        let asker = Asker::default();
        let ask = Ask::default();
        let outcome = Outcome::Taken;
        let noted = Noted {
            asker: &asker,
            line_up: 1,
            ask: &ask,
            has_session: false,
            picked: Some(0),
            outcome,
        };
        for (open, is_partial) in [((0, 65_535), false), ((0, 65_536), true), ((70_000, 1), true)] {
            let mut words = Vec::new();
            pick(&mut words, 1, 0, &noted, &Reads { opens: vec![open], ..Reads::default() });
            let Some(Record::Pick(read)) = Record::read(&words, 0, 0) else { panic!("{words:?}") };
            assert_eq!(read.reads.is_partial, is_partial, "{open:?}");
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for text in ["", "{}", "[1, 2, 3]", "a longer one, ü"] {
            let mut words = Vec::new();
            note(&mut words, 0, text.as_bytes());
            assert_eq!(Record::read(&words, 0, 0), Some(Record::Note(text.into())));
        }
        let mark = Mark::new(7, 123_456);
        let mut words = Vec::new();
        end(&mut words, 5, 0, mark);
        let expected = End { at: 5, worker: 7, position: 123_456 };
        assert_eq!(Record::read(&words, 1, 0), Some(Record::End(expected)));
    }
}
