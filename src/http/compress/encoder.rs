//! One body on its way into a coding: bytes in, coded bytes out, in pieces, with everything so far on demand.
//! It must never make a body look whole that is not: only `finish` writes an end, and dropping it writes nothing.
//! What one takes is bounded by the windows below, whatever comes and however slowly it is taken: measured at level 4,
//! gzip 0.3 MiB, zstd 0.7 and brotli 1.8; at level 6 brotli takes 3.3.

use std::fmt;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderDestroyInstance, BrotliEncoderOperation, BrotliEncoderParameter,
    BrotliEncoderStateStruct,
};
use flate2::{Compress as Deflate, Compression as Level, FlushCompress, Status};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective as Directive;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::places::Place;
use crate::config::Coding;

/// Bytes that a match may reach back, as a power of two. More would cost memory and gain little on texts; all of
/// them are far below what a client must be able to hold (RFC 9659: 8 MiB for zstd). Below 17, brotli would choose
/// tables of 32 MiB at its higher levels.
const GZIP_WINDOW_BITS: u8 = 15;
const BROTLI_WINDOW_BITS: u32 = 17;
const ZSTD_WINDOW_BITS: u32 = 17;

/// Entries of the tables in which zstd looks for matches, as a power of two; its own choice would be larger by far.
const ZSTD_TABLE_BITS: u32 = 15;

/// Room made for what comes out, at a time.
const ROOM: usize = 16 * 1024;

/// The coder of one body.
pub(in crate::http) struct Encoder {
    coder: Coder,
    /// What came out and was not taken: no more than one piece and what the coder kept of those before.
    coded: Vec<u8>,
    taken: usize,
    /// Whether something went in after the last flush.
    holds: bool,
    finished: bool,
    _place: Place,
}

/// The coder could not go on; what has come out is the beginning of a body and no more.
#[derive(Debug)]
pub(in crate::http) struct Failed;

enum Coder {
    Gzip(Deflate),
    Br(Box<Brotli>),
    Zstd(CCtx<'static>),
}

struct Brotli(BrotliEncoderStateStruct<StandardAlloc>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Feed,
    Flush,
    Finish,
}

impl Encoder {
    /// An encoder that keeps its place for as long as it is there. None when there is no memory for it.
    pub(super) fn new(coding: Coding, level: u32, place: Place) -> Option<Encoder> {
        let coder = match coding {
            Coding::Gzip => Coder::Gzip(Deflate::new_gzip(Level::new(level), GZIP_WINDOW_BITS)),
            Coding::Br => Coder::Br(Box::new(Brotli::new(level))),
            Coding::Zstd => Coder::Zstd(zstd(level)?),
        };
        let (coded, taken) = (Vec::new(), 0);
        Some(Encoder { coder, coded, taken, holds: false, finished: false, _place: place })
    }

    /// Takes a part of the body in.
    pub(in crate::http) fn feed(&mut self, data: &[u8]) -> Result<(), Failed> {
        self.holds |= !data.is_empty();
        self.step(data, Step::Feed)
    }

    /// Lets everything out that went in. Whether there was anything.
    pub(in crate::http) fn flush(&mut self) -> Result<bool, Failed> {
        if !self.holds {
            return Ok(false);
        }
        self.holds = false;
        self.step(&[], Step::Flush)?;
        Ok(true)
    }

    /// Writes the end; nothing may come after it.
    pub(in crate::http) fn finish(&mut self) -> Result<(), Failed> {
        if self.finished {
            return Ok(());
        }
        (self.holds, self.finished) = (false, true);
        self.step(&[], Step::Finish)
    }

    pub(in crate::http) fn is_finished(&self) -> bool {
        self.finished
    }

    /// At most so much of what came out; nothing when all of it has been taken.
    pub(in crate::http) fn take(&mut self, most: usize) -> &[u8] {
        let from = self.taken;
        self.taken = self.coded.len().min(from + most);
        &self.coded[from..self.taken]
    }

    fn step(&mut self, data: &[u8], step: Step) -> Result<(), Failed> {
        if self.taken == self.coded.len() {
            self.coded.clear();
            self.taken = 0;
        }
        let outcome = match &mut self.coder {
            Coder::Gzip(deflate) => run_gzip(deflate, data, step, &mut self.coded),
            Coder::Br(brotli) => brotli.run(data, step, &mut self.coded),
            Coder::Zstd(context) => run_zstd(context, data, step, &mut self.coded),
        };
        if outcome.is_err() {
            tracing::error!("{self:?} could not go on; its answer is broken off");
        }
        outcome
    }
}

fn run_gzip(
    deflate: &mut Deflate,
    mut data: &[u8],
    step: Step,
    coded: &mut Vec<u8>,
) -> Result<(), Failed> {
    let flush = match step {
        Step::Feed => FlushCompress::None,
        Step::Flush => FlushCompress::Sync,
        Step::Finish => FlushCompress::Finish,
    };
    loop {
        coded.reserve(ROOM);
        let before = deflate.total_in();
        let status = deflate.compress_vec(data, coded, flush).map_err(|_| Failed)?;
        let used = usize::try_from(deflate.total_in() - before).map_err(|_| Failed)?;
        data = data.get(used..).ok_or(Failed)?;
        // Room that is left says that nothing more would come.
        let has_room = coded.len() < coded.capacity();
        match status {
            Status::StreamEnd => return Ok(()),
            _ if step == Step::Finish && has_room => return Err(Failed),
            _ if step != Step::Finish && has_room && data.is_empty() => return Ok(()),
            Status::BufError if has_room => return Err(Failed),
            Status::Ok | Status::BufError => {}
        }
    }
}

impl Brotli {
    fn new(level: u32) -> Brotli {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, level);
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, BROTLI_WINDOW_BITS);
        Brotli(state)
    }

    fn run(&mut self, data: &[u8], step: Step, coded: &mut Vec<u8>) -> Result<(), Failed> {
        let operation = match step {
            Step::Feed => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Step::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Step::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut left, mut at) = (data.len(), 0);
        loop {
            // No room is offered: what comes out is taken from where it lies.
            let (mut room, mut out_at) = (0, 0);
            let went_on = self.0.compress_stream(
                operation,
                &mut left,
                data,
                &mut at,
                &mut room,
                &mut [],
                &mut out_at,
                &mut None,
                &mut |_, _, _, _| (),
            );
            if !went_on {
                return Err(Failed);
            }
            let mut came_out = false;
            while self.0.has_more_output() {
                let mut length = 0;
                let from_there = self.0.take_output(&mut length);
                coded.extend_from_slice(from_there.get(..length).ok_or(Failed)?);
                came_out = true;
            }
            let is_over = step != Step::Finish || self.0.is_finished();
            if left == 0 && is_over && !came_out {
                return Ok(());
            }
        }
    }
}

impl Drop for Brotli {
    fn drop(&mut self) {
        // The crate gives nothing back by itself.
        BrotliEncoderDestroyInstance(&mut self.0);
    }
}

fn zstd(level: u32) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    for parameter in [
        CParameter::CompressionLevel(i32::try_from(level).ok()?),
        CParameter::WindowLog(ZSTD_WINDOW_BITS),
        CParameter::HashLog(ZSTD_TABLE_BITS),
        CParameter::ChainLog(ZSTD_TABLE_BITS),
    ] {
        context.set_parameter(parameter).ok()?;
    }
    Some(context)
}

fn run_zstd(
    context: &mut CCtx<'static>,
    data: &[u8],
    step: Step,
    coded: &mut Vec<u8>,
) -> Result<(), Failed> {
    let directive = match step {
        Step::Feed => Directive::ZSTD_e_continue,
        Step::Flush => Directive::ZSTD_e_flush,
        Step::Finish => Directive::ZSTD_e_end,
    };
    let mut input = InBuffer::around(data);
    loop {
        coded.reserve(ROOM);
        let at = coded.len();
        let mut output = OutBuffer::around_pos(coded, at);
        let left =
            context.compress_stream2(&mut output, &mut input, directive).map_err(|_| Failed)?;
        let is_over = if step == Step::Feed { input.pos() == data.len() } else { left == 0 };
        if is_over {
            return Ok(());
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coder = match self.coder {
            Coder::Gzip(_) => "gzip",
            Coder::Br(_) => "br",
            Coder::Zstd(_) => "zstd",
        };
        f.debug_struct("Encoder").field("coder", &coder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::http::compress::Places;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    fn encoder(coding: Coding, level: u32) -> Encoder {
        Encoder::new(coding, level, Places::new(1).take().unwrap()).unwrap()
    }

    fn taken(encoder: &mut Encoder) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = encoder.take(1000);
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(piece);
        }
    }

    /// What comes out of a decoder before its end or its error, and whether the body was whole.
    fn decoded(coding: Coding, coded: &[u8]) -> (Vec<u8>, bool) {
        let mut decoder: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
            Coding::Br => Box::new(brotli::Decompressor::new(coded, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
        };
        let (mut out, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return (out, true),
                Ok(count) => out.extend_from_slice(&piece[..count]),
                Err(_) => return (out, false),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_pieces_go_in_the_same_bytes_come_out(
            pieces in prop::collection::vec(
                (prop::collection::vec(prop::sample::select(&b"abcd \x00\xff"[..]), 0..9000), any::<bool>()),
                0..12,
            ),
            level in 1_u32..=6,
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for coding in ALL {
                let (mut encoder, mut coded, mut fed) = (encoder(coding, level), Vec::new(), 0);
                for (piece, flush) in &pieces {
                    encoder.feed(piece).unwrap();
                    fed += piece.len();
                    if *flush {
                        encoder.flush().unwrap();
                        prop_assert!(!encoder.flush().unwrap(), "there is nothing new");
                    }
                    coded.extend(taken(&mut encoder));
                    if *flush {
                        let (sofar, _) = decoded(coding, &coded);
                        prop_assert_eq!(&sofar[..], &whole[..fed], "{} is flushed", coding);
                    }
                }
                encoder.finish().unwrap();
                coded.extend(taken(&mut encoder));
                prop_assert_eq!(decoded(coding, &coded), (whole.clone(), true), "{}", coding);
            }
        }
    }

    #[test]
    fn a_body_without_its_end_is_not_whole() {
        for coding in ALL {
            let mut encoder = encoder(coding, 4);
            encoder.feed(&[b'x'; 5000]).unwrap();
            encoder.flush().unwrap();
            let coded = taken(&mut encoder);
            drop(encoder);
            assert_eq!(decoded(coding, &coded), (vec![b'x'; 5000], false), "{coding}");
        }
    }

    #[test]
    fn an_encoder_keeps_little_of_a_body_that_cannot_be_compressed() {
        let mut noise = 1_u32;
        let piece: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        })
        .take(16 * 1024)
        .collect();
        for coding in ALL {
            let mut encoder = encoder(coding, 6);
            let mut most = 0;
            for _ in 0..200 {
                encoder.feed(&piece).unwrap();
                most = most.max(taken(&mut encoder).len());
            }
            assert!((1..300_000).contains(&most), "{coding}: {most}");
            assert!(encoder.coded.capacity() < 600_000, "{coding}: {}", encoder.coded.capacity());
        }
    }

    #[test]
    fn an_empty_body_is_still_one() {
        for coding in ALL {
            let mut encoder = encoder(coding, 4);
            assert!(!encoder.flush().unwrap());
            encoder.finish().unwrap();
            assert!(encoder.is_finished());
            assert_eq!(decoded(coding, &taken(&mut encoder)), (Vec::new(), true), "{coding}");
        }
    }

    #[test]
    fn a_place_is_free_again_with_the_encoder() {
        let places = Places::new(2);
        let first = Encoder::new(Coding::Gzip, 4, places.take().unwrap());
        let _second = places.take().unwrap();
        assert!(places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }
}
