//! A packet through a relay and back, and what to do about a STUN or TURN server that does not do what it is there for.

use std::{io, net::SocketAddr, time::Duration};

use switchboard::client::turn::{Heard, TurnClient, TurnError};
use tokio::{net::UdpSocket, time::timeout};

/// After so long without an answer a packet is sent again.
const AGAIN: Duration = Duration::from_millis(500);
/// After so long a packet that nobody answers for is lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a server does not do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Turn(#[from] TurnError),
    #[error("it has a relay at {0}, but a packet sent there does not come through")]
    Unreachable(SocketAddr),
}

impl Fault {
    /// What to do about it.
    pub fn advice(&self, host: &str, port: u16) -> String {
        match self {
            Self::Turn(TurnError::Io(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("nobody listens at {host} on port {port}: does the server run, and is the port the right one?")
                }
                io::ErrorKind::InvalidData => format!("its certificate is not good for {host}: browsers refuse it as well"),
                _ => format!("does {host} have an address, and is port {port} open?"),
            },
            Self::Turn(TurnError::Refused(401 | 431 | 441) | TurnError::Unsigned) => {
                "it does not take the credentials: do both know the same secret (ice.turn_secret_files; coturn: static-auth-secret), and are both clocks right?".into()
            }
            Self::Turn(TurnError::Refused(486 | 508)) => "it has as many relays as it may: raise its bounds, or wait".into(),
            Self::Turn(TurnError::Refused(_)) => "the log of the TURN server says why".into(),
            Self::Turn(TurnError::NoStun) => "is it a STUN or TURN server that listens there?".into(),
            Self::Unreachable(relayed) => format!(
                "is {} the address by which the world knows it (turn.external_ip; coturn: external-ip), and are its UDP ports for relays open (turn.ports; coturn: min-port, max-port)?",
                relayed.ip()
            ),
        }
    }
}

/// Sends a packet to a relay from outside, and one back through it.
pub async fn relay(client: &mut TurnClient) -> Result<String, Fault> {
    let (relayed, mapped) = client.allocate(None).await?;
    match client.permit(mapped).await {
        Ok(()) => {}
        // A server on an inner network, which relays to the public internet alone: whether packets get out is not to be seen from here.
        Err(TurnError::Refused(403)) => {
            return Ok(format!("relays at {relayed}; to {} it may not, so no packet was sent through", mapped.ip()));
        }
        Err(error) => return Err(error.into()),
    }
    let any = SocketAddr::new(if relayed.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let outside = UdpSocket::bind(any).await.map_err(TurnError::Io)?;
    let arrives = async {
        // UDP loses some.
        for attempt in 0_u8.. {
            outside.send_to(&[attempt], relayed).await?;
            if let Ok(heard) = timeout(AGAIN, client.hear()).await {
                return heard;
            }
        }
        unreachable!("there are more attempts than time")
    };
    let Heard::Data(from, _) = timeout(PATIENCE, arrives).await.map_err(|_| Fault::Unreachable(relayed))?? else {
        return Err(TurnError::NoStun.into());
    };
    let mut back = [0; 16];
    client.send_to(from, b"back").await?;
    let returned = timeout(PATIENCE, outside.recv(&mut back)).await;
    returned.map_err(|_| Fault::Unreachable(relayed))?.map_err(TurnError::Io)?;
    Ok(format!("relays at {relayed}, there and back"))
}
