//! The client that comes back, with deadlines, and with ways to lose its connection.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use switchboard::{
    client::{Client, Connector, Disconnected, Door, ResumingClient},
    protocol::{ClientMessage, ServerMessage},
};

use super::within;

/// A client over all of its connections.
pub struct Resuming {
    client: ResumingClient,
    /// Connections that it has left without a word, and that still look alive.
    pub left_behind: Vec<Client>,
}

/// How a connection dies.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The socket is reset; QUIC says that something went wrong.
    Reset,
    /// The client is elsewhere, and its old connection still looks alive.
    LeftBehind,
}

impl Resuming {
    /// A client that has been welcomed.
    pub async fn connect(connector: &Arc<Connector>, door: Door) -> Self {
        let client = within("a welcome", ResumingClient::connect(connector, door)).await.expect("a welcome");
        Self { client, left_behind: vec![] }
    }

    /// One that is in a room and has heard so.
    pub async fn join(connector: &Arc<Connector>, door: Door, room: &str) -> Self {
        let mut client = Self::connect(connector, door).await;
        client.send(None, ClientMessage::Join { room: room.to_owned().into(), metadata: None }).await;
        assert!(matches!(client.hear().await, ServerMessage::Joined { .. }));
        client
    }

    /// The same client, from now on by another way.
    pub fn by(self, connector: &Arc<Connector>) -> Self {
        Self { client: self.client.by(connector), ..self }
    }

    /// The next message.
    pub async fn hear(&mut self) -> ServerMessage<'static> {
        within("a message", self.try_hear()).await.expect("a connection")
    }

    /// The next message, or the end of the connection. Nothing is lost when this is dropped.
    pub async fn try_hear(&mut self) -> Result<ServerMessage<'static>, Disconnected> {
        self.client.receive().await
    }

    /// Loses the connection.
    pub fn cut(&mut self, cut: Cut) {
        let Some(client) = self.client.leave_behind() else { return };
        match cut {
            Cut::Reset => client.abort(),
            Cut::LeftBehind => self.left_behind.push(client),
        }
    }

    /// Comes back by this door, and says again what the server has not received. Whether its session went on.
    pub async fn resume(&mut self, door: Door) -> bool {
        let before = self.peer_id;
        let resumed = within("a welcome", self.client.resume(door)).await.expect("a welcome");
        assert_eq!(self.peer_id == before, resumed);
        resumed
    }

    /// Closes as the door provides for it.
    pub async fn leave(self) {
        within("a close", self.client.close()).await;
    }
}

impl Deref for Resuming {
    type Target = ResumingClient;

    fn deref(&self) -> &ResumingClient {
        &self.client
    }
}

impl DerefMut for Resuming {
    fn deref_mut(&mut self) -> &mut ResumingClient {
        &mut self.client
    }
}
