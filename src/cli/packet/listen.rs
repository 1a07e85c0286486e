//! `evenkeel packet listen`: a server to try clients and balancers with. It prints what comes and answers it, and ends in
//! order: what was answered is delivered before a connection closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_client::{Framing, PacketCodec, PacketError};
use evenkeel_wire::Packets;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::{Cutting, misused, runtime, shown};
use crate::cli::{complain, exit, say};
use crate::config::{Address, Bytestring};

/// Clients at the same time.
const CLIENTS_MAX: usize = 4096;
/// For connections to end in.
const PARTING: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    cutting: Cutting,
    /// Where to listen: IP:PORT, [IP6]:PORT, or :PORT for all addresses.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9501")]
    listen: Address,
    /// Answer each packet with itself, as is done anyway.
    #[arg(long, conflicts_with_all = ["reply", "quiet"])]
    echo: bool,
    /// Answer each packet with this one: its body, as text or as hex:...
    #[arg(long, value_name = "DATA", conflicts_with = "quiet")]
    reply: Option<Bytestring>,
    /// Answer nothing.
    #[arg(long)]
    quiet: bool,
    /// End after so many packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// What is done with a packet.
#[derive(Debug)]
enum Answer {
    Echo,
    /// A whole packet.
    Fixed(Vec<u8>),
    Nothing,
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    packets: Packets,
    answer: Answer,
    count: Option<u64>,
    seen: AtomicU64,
    stop: watch::Sender<bool>,
}

pub(super) fn listen(arguments: Arguments) -> u8 {
    let (server, addresses) = match prepare(&arguments) {
        Ok(prepared) => prepared,
        Err(what) => return misused(&what),
    };
    let served = runtime().and_then(|runtime| runtime.block_on(serve(server, &addresses)));
    match served {
        Ok(()) => exit::FINE,
        Err(error) => {
            complain(&format!("evenkeel packet listen: {}: {error}", arguments.listen));
            exit::NOT_STARTED
        }
    }
}

fn prepare(arguments: &Arguments) -> Result<(Server, Vec<SocketAddr>), String> {
    let packets = arguments.cutting.packets()?;
    let answer = match &arguments.reply {
        _ if arguments.quiet => Answer::Nothing,
        None => Answer::Echo,
        Some(Bytestring(body)) => {
            let mut packet = Vec::new();
            let written = packets.write(body, &[], &mut packet);
            written.map_err(|refusal| format!("--reply cannot be sent: {refusal}"))?;
            Answer::Fixed(packet)
        }
    };
    let addresses = match &arguments.listen {
        Address::Ip(address) => vec![*address],
        // The first takes IPv4 too; the second is for systems without IPv6.
        Address::Port(port) => {
            vec![SocketAddr::from(([0_u16; 8], *port)), SocketAddr::from(([0, 0, 0, 0], *port))]
        }
        other => {
            return Err(format!("cannot listen on {other}: an IP address and a port are needed"));
        }
    };
    let (stop, _) = watch::channel(false);
    let seen = AtomicU64::new(0);
    Ok((Server { packets, answer, count: arguments.count, seen, stop }, addresses))
}

async fn serve(server: Server, addresses: &[SocketAddr]) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(addresses).await?;
    complain(&format!("listening on {}", listener.local_addr()?));
    let server = Arc::new(server);
    let mut stopped = server.stop.subscribe();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = asked_to_end(&mut terminate, &mut interrupt) => break,
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, client)) => drop(clients.spawn(visit(stream, client, Arc::clone(&server)))),
                // Of descriptors there may be none left; a client that has gone already is no news.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    let _ = server.stop.send(true);
    let _ = timeout(PARTING, async { while clients.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn asked_to_end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Serves one client.
async fn visit(stream: TcpStream, client: SocketAddr, server: Arc<Server>) {
    let _ = stream.set_nodelay(true);
    let codec = PacketCodec::new(Framing::from(server.packets.clone()).whole());
    let mut framed = Framed::new(stream, codec);
    if let Err(error) = converse(&mut framed, client, &server).await {
        complain(&format!("{client}: {error}"));
        return;
    }
    if let Err(error) = SinkExt::<Bytes>::close(&mut framed).await {
        complain(&format!("{client}: {error}"));
    }
}

/// Answers until the client ends, or this server does.
async fn converse(
    framed: &mut Framed<TcpStream, PacketCodec>,
    client: SocketAddr,
    server: &Server,
) -> Result<(), PacketError> {
    let mut stopped = server.stop.subscribe();
    loop {
        let packet = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            packet = framed.next() => packet,
        };
        let Some(packet) = packet.transpose()? else { return Ok(()) };
        let number = server.seen.fetch_add(1, Relaxed) + 1;
        if server.count.is_some_and(|count| number > count) {
            return Ok(());
        }
        say(&format!("{client} {}", shown(server.packets.body_of(&packet))));
        match &server.answer {
            Answer::Echo => framed.send(packet).await?,
            Answer::Fixed(reply) => framed.send(reply).await?,
            Answer::Nothing => {}
        }
        if server.count == Some(number) {
            let _ = server.stop.send(true);
        }
    }
}
