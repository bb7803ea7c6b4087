//! A relay at a TURN server: one task keeps it, for as long as anybody can send by it, and gives it back at the end.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use str0m::net::DatagramSend;
use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    client::{
        Options,
        turn::{Heard, TurnClient, TurnError},
    },
    ice::{By, IceUrl, TurnCredential},
};

/// So long a server may take to answer; then the next is asked.
const ANSWER: Duration = Duration::from_secs(5);
/// Giving a relay back takes no longer; if it does, it runs out.
const PARTING: Duration = Duration::from_millis(500);
/// A relay is kept for so many seconds, and a permission for 300 (RFC 8656 §9): both are asked for again
const LIFETIME_SECONDS: u32 = 600;
/// in time.
const REFRESH: Duration = Duration::from_secs(200);
/// So many addresses are let in; the candidates of a peer are fewer.
const PERMISSIONS_MAX: usize = 64;
/// So many packets wait for the server; more are lost, as UDP loses some.
const WAITING_MAX: usize = 256;

/// A relay that is there.
pub struct Relay {
    /// Where it is.
    pub relayed: SocketAddr,
    /// From where it is asked.
    pub local: SocketAddr,
    packets: mpsc::Sender<(SocketAddr, DatagramSend)>,
}

/// What came through a relay.
pub struct Relayed {
    pub by: SocketAddr,
    pub from: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Relay {
    /// Sends, or loses it.
    pub fn send(&self, to: SocketAddr, packet: DatagramSend) {
        let _ = self.packets.try_send((to, packet));
    }

    /// Asks the server for a relay, tells of it, and passes on what comes, until it is dropped. The error is why there is none any more.
    pub async fn keep(
        url: &IceUrl,
        by: By,
        credential: Option<TurnCredential>,
        options: Options,
        tell: impl AsyncFnOnce(Self),
        heard: mpsc::Sender<Relayed>,
    ) -> Result<(), TurnError> {
        let late = |_| TurnError::Io(std::io::ErrorKind::TimedOut.into());
        let asked = timeout(ANSWER, async {
            let address = lookup_host((url.host(), url.port())).await?.next();
            let address = address.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AddrNotAvailable))?;
            let mut client = TurnClient::connect(address, by, url.host(), &options).await?;
            client.use_credential(credential);
            let (relayed, _) = client.allocate(None).await?;
            Ok::<_, TurnError>((client, relayed))
        });
        let (mut client, relayed) = asked.await.map_err(late)??;
        let (packets, mut outgoing) = mpsc::channel::<(SocketAddr, DatagramSend)>(WAITING_MAX);
        tell(Self { relayed, local: client.local_address(), packets }).await;
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.reset();
        // Whether the server lets them in.
        let mut permissions: HashMap<IpAddr, bool> = HashMap::new();
        loop {
            tokio::select! {
                packet = client.hear() => {
                    let Heard::Data(from, bytes) = packet? else { continue };
                    if heard.send(Relayed { by: relayed, from, bytes }).await.is_err() {
                        break;
                    }
                }
                packet = outgoing.recv() => {
                    let Some((to, packet)) = packet else { break };
                    let has_room = permissions.len() < PERMISSIONS_MAX;
                    let is_permitted = match permissions.entry(to.ip()) {
                        Entry::Occupied(known) => *known.get(),
                        Entry::Vacant(new) if has_room => *new.insert(timeout(ANSWER, permit(&mut client, to)).await.map_err(late)??),
                        Entry::Vacant(_) => false,
                    };
                    if is_permitted {
                        client.send_to(to, &packet).await?;
                    }
                }
                _ = refresh.tick() => {
                    timeout(ANSWER, client.refresh(LIFETIME_SECONDS)).await.map_err(late)??;
                    for (ip, is_permitted) in &mut permissions {
                        if *is_permitted {
                            *is_permitted = timeout(ANSWER, permit(&mut client, (*ip, 0).into())).await.map_err(late)??;
                        }
                    }
                }
            }
        }
        // It is the end, whether the server hears of it or not.
        let _ = timeout(PARTING, client.refresh(0)).await;
        Ok(())
    }
}

/// Is this peer let in? A server may say no, of an address of another family or one that is none of its business.
async fn permit(client: &mut TurnClient, peer: SocketAddr) -> Result<bool, TurnError> {
    match client.permit(peer).await {
        Ok(()) => Ok(true),
        Err(TurnError::Refused(403 | 443)) => Ok(false),
        Err(error) => Err(error),
    }
}
