//! Handshakes of TLS, by rustls, up to the keys that were agreed on. With these, the connection goes on by itself: rustls
//! copies each byte of a body twice more than sealing it needs, and holds a kilobyte more for an idle connection.

use std::future::poll_fn;
use std::io;
use std::ops::DerefMut;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{
    ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig,
};

use super::kept::Kept;
use super::records::record_length;
use super::secured::Secured;
use crate::socket::Socket;

/// Bytes that may have come and not be done with: the longest message of a handshake that rustls takes, 64 KiB, in
/// records with their heads, and what came with its end.
const UNFINISHED: usize = 128 * 1024;

/// One side of a connection on which nothing but a handshake passes.
pub(crate) struct Handshake<S> {
    socket: Socket,
    /// A kilobyte and more, which every future it is moved through would have room for.
    session: Box<S>,
    /// What has come and is not done with.
    arrived: Vec<u8>,
    /// How much of it the session has seen, in whole records: what stands behind the end of the handshake is not for it.
    shown: usize,
    leaving: Kept,
}

/// What makes the keys that follow those of the handshake, and takes tickets: TLS 1.3 alone has them afterwards.
pub(crate) enum Successors {
    Served(KernelConnection<ServerConnectionData>),
    Reached(KernelConnection<ClientConnectionData>),
}

impl Successors {
    pub(super) fn seal_with(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Successors::Served(keys) => keys.update_tx_secret(),
            Successors::Reached(keys) => keys.update_tx_secret(),
        }
    }

    pub(super) fn open_with(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Successors::Served(keys) => keys.update_rx_secret(),
            Successors::Reached(keys) => keys.update_rx_secret(),
        }
    }

    /// Takes a ticket to go on with another time; a client sends none.
    pub(super) fn take_ticket(&mut self, ticket: &[u8]) -> Option<Result<(), Error>> {
        match self {
            Successors::Served(_) => None,
            Successors::Reached(keys) => Some(keys.handle_new_session_ticket(ticket)),
        }
    }
}

/// What the two sides of rustls have in common.
pub(crate) trait Side: DerefMut<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;

    fn go_on<'s, 'a>(&'s mut self, arrived: &'a mut [u8]) -> UnbufferedStatus<'s, 'a, Self::Data>;

    fn into_keys(self) -> Result<(ExtractedSecrets, Successors), Error>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn go_on<'s, 'a>(&'s mut self, arrived: &'a mut [u8]) -> UnbufferedStatus<'s, 'a, Self::Data> {
        self.process_tls_records(arrived)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Successors), Error> {
        let (secrets, successors) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Successors::Served(successors)))
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn go_on<'s, 'a>(&'s mut self, arrived: &'a mut [u8]) -> UnbufferedStatus<'s, 'a, Self::Data> {
        self.process_tls_records(arrived)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Successors), Error> {
        let (secrets, successors) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Successors::Reached(successors)))
    }
}

impl Handshake<UnbufferedServerConnection> {
    /// With a client, as far as its end; `arrived` is what was read of it already. The config must allow that its
    /// secrets are taken out.
    pub(crate) async fn accept(
        socket: Socket,
        config: Arc<ServerConfig>,
        arrived: Vec<u8>,
    ) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Handshake::over(socket, session, arrived).done().await
    }
}

impl Handshake<UnbufferedClientConnection> {
    /// With a backend, as far as its end.
    pub(crate) async fn connect(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Handshake::over(socket, session, Vec::new()).done().await
    }
}

impl<S: Side> Handshake<S> {
    fn over(socket: Socket, session: S, arrived: Vec<u8>) -> Handshake<S> {
        let (session, leaving) = (Box::new(session), Kept::default());
        Handshake { socket, session, arrived, shown: 0, leaving }
    }

    async fn done(mut self) -> io::Result<Handshake<S>> {
        loop {
            let outcome = self.digest();
            // An alert is sent too, and the error that it tells matters more than whether it arrives.
            let sent = poll_fn(|cx| self.poll_flush(cx)).await;
            outcome?;
            sent?;
            if !self.session.is_handshaking() {
                return Ok(self);
            }
            if poll_fn(|cx| self.poll_arrival(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.arrived.len() > UNFINISHED {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
            }
        }
    }

    /// What was agreed on.
    pub(crate) fn state(&self) -> &CommonState {
        &self.session
    }

    /// The connection that goes on with what was agreed on.
    pub(crate) fn into_secured(self) -> io::Result<Secured> {
        let Handshake { socket, session, mut arrived, .. } = self;
        // Most often nothing is left in it, and what has room for a hello would stay as long as the connection.
        arrived.shrink_to_fit();
        let protocol = session.alpn_protocol().map(Box::from);
        let suite = session.negotiated_cipher_suite().ok_or(io::ErrorKind::InvalidData)?;
        let (secrets, successors) = session.into_keys().map_err(io::Error::other)?;
        let rest = (arrived, protocol);
        Secured::new(socket, suite, &secrets, successors, rest).map_err(io::Error::other)
    }

    /// Goes on with what has come, record by record.
    fn digest(&mut self) -> io::Result<()> {
        loop {
            self.step()?;
            if !self.session.is_handshaking() || !self.show_more() {
                return Ok(());
            }
        }
    }

    /// Shows the next record, if it is whole; or everything, if it cannot be one, for the alert.
    fn show_more(&mut self) -> bool {
        let rest = self.arrived.get(self.shown..).unwrap_or_default();
        let length = record_length(rest).unwrap_or(Some(rest.len()));
        let Some(length) = length.filter(|length| (1..=rest.len()).contains(length)) else {
            return false;
        };
        self.shown += length;
        true
    }

    /// Goes on with what is shown, until more must be.
    fn step(&mut self) -> io::Result<()> {
        let mut failed: Option<Error> = None;
        loop {
            // Once it has failed, it is asked once more, for the alert if there is one, and then never again.
            let is_last = failed.is_some();
            let shown = self.arrived.get_mut(..self.shown).unwrap_or_default();
            let UnbufferedStatus { discard, state, .. } = self.session.go_on(shown);
            let goes_on = match state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if let Err(EncodeError::InsufficientSize(short)) = message.encode(&mut []) {
                        let mut bytes = vec![0; short.required_size];
                        let _ = message.encode(&mut bytes);
                        self.leaving.add(&bytes);
                    }
                    true
                }
                // It is in order behind what else is leaving.
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) => false,
                Err(error) => {
                    failed.get_or_insert(error);
                    true
                }
            };
            self.arrived.drain(..discard.min(self.shown));
            self.shown -= discard.min(self.shown);
            if !goes_on || is_last {
                break;
            }
        }
        match failed {
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            None => Ok(()),
        }
    }

    /// Adds to what has come.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let count = ready!(self.socket.poll_read(cx, &mut bytes))?;
        self.arrived.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    /// Hands everything that was said to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leaving.poll_flush(cx, &self.socket)
    }
}
