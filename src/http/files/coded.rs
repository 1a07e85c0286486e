//! Bytes of a file on their way through an encoder, where the answer is compressed: fed in small pieces, and what
//! comes out is put as the client takes it. Without an encoder nothing here does anything.

use std::future::poll_fn;
use std::task::Poll;

use crate::http::compress::{PIECE, PIECES_PER_TURN, poll_turn, spend};
use crate::http::session::Session;
use crate::observe::ended::Why;

impl Session<'_> {
    /// Compresses bytes that are in memory, and puts what comes out.
    pub(super) async fn encode(&mut self, bytes: &[u8]) -> Result<(), Why> {
        for (place, piece) in bytes.chunks(PIECE).enumerate() {
            if place > 0 && place.is_multiple_of(PIECES_PER_TURN as usize) {
                tokio::task::yield_now().await;
            }
            if let Some(encoder) = &mut self.encoder {
                encoder.feed(piece).map_err(|_| Why::InternalError)?;
            }
            self.put_coded().await?;
        }
        Ok(())
    }

    /// Puts what has come out of the encoder.
    pub(super) async fn put_coded(&mut self) -> Result<(), Why> {
        if self.encoder.is_some() {
            poll_fn(|cx| {
                spend(cx);
                Poll::Ready(())
            })
            .await;
            poll_fn(poll_turn).await;
        }
        while self.encoder.is_some() {
            self.drained().await?;
            let is_empty = poll_fn(|cx| {
                let room = self.stream.piece_max().min(PIECE);
                let coded = self.encoder.as_mut().map_or(&[][..], |encoder| encoder.take(room));
                if coded.is_empty() {
                    return Poll::Ready(Ok(true));
                }
                let put = self.stream.put(cx, coded, false).map(|()| false);
                Poll::Ready(put.map_err(|_| Why::ClientGone))
            });
            if is_empty.await? {
                break;
            }
        }
        Ok(())
    }

    /// Ends what is being compressed.
    pub(super) async fn finish_coded(&mut self) -> Result<(), Why> {
        if let Some(encoder) = &mut self.encoder {
            encoder.finish().map_err(|_| Why::InternalError)?;
        }
        self.put_coded().await
    }
}
