//! A client that keeps what it needs to come back: what it sent and is not known to have arrived, and how much it received.

use std::{collections::VecDeque, sync::Arc};

use switchboard::{
    client::{Client, Connector, Disconnected, Door},
    protocol::{ClientMessage, PeerId, Request, Resume, ResumeToken, ServerMessage, Welcome},
};

use super::within;

/// A client over all of its connections.
pub struct Resuming {
    connector: Arc<Connector>,
    client: Option<Client>,
    /// Connections that it has left without a word, and that still look alive.
    pub left_behind: Vec<Client>,
    pub peer_id: PeerId,
    pub token: ResumeToken,
    /// How many of the server's messages it has received.
    pub received: u64,
    /// How many messages it has sent, and the latest of them.
    sent: u64,
    unacknowledged: VecDeque<Request<'static>>,
}

/// How a connection dies.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The socket is reset. QUIC has no such thing, so there the connection is left behind.
    Reset,
    /// The client is elsewhere, and its old connection still looks alive.
    LeftBehind,
}

impl Resuming {
    /// A client that has been welcomed.
    pub async fn connect(connector: &Arc<Connector>, door: Door) -> Self {
        let mut client = within("a connection", connector.connect(door)).await.expect("a connection");
        client.send(&Request { id: None, message: ClientMessage::Hello { resume: None } }).await.expect("a connection");
        let welcome = welcome(&mut client).await;
        Self {
            connector: connector.clone(),
            client: Some(client),
            left_behind: vec![],
            peer_id: welcome.peer_id,
            token: welcome.resume_token,
            received: 1,
            sent: 1,
            unacknowledged: VecDeque::new(),
        }
    }

    /// One that is in a room and has heard so.
    pub async fn join(connector: &Arc<Connector>, door: Door, room: &'static str) -> Self {
        let mut client = Self::connect(connector, door).await;
        client.send(None, ClientMessage::Join { room: room.into(), metadata: None }).await;
        assert!(matches!(client.hear().await, ServerMessage::Joined { .. }));
        client
    }

    /// The same client, from now on by another way.
    pub fn by(self, connector: &Arc<Connector>) -> Self {
        Self { connector: connector.clone(), ..self }
    }

    /// Stands for a client that has sent so many messages, all of which arrived.
    pub fn forget_sent(&mut self, sent: u64) {
        self.sent = sent;
        self.unacknowledged.clear();
    }

    /// Is there a connection?
    pub fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// Says something, now or as soon as it is back.
    pub async fn send(&mut self, id: Option<u64>, message: ClientMessage<'static>) {
        let request = Request { id, message };
        self.sent += 1;
        self.unacknowledged.push_back(request.clone());
        if let Some(client) = &mut self.client {
            // A connection that takes nothing any more is noticed by who hears on it.
            let _ = client.send(&request).await;
        }
    }

    /// The next message.
    pub async fn hear(&mut self) -> ServerMessage {
        within("a message", self.try_hear()).await.expect("a connection")
    }

    /// The next message, or the end of the connection. Nothing is lost when this is dropped.
    pub async fn try_hear(&mut self) -> Result<ServerMessage, Disconnected> {
        let message = self.client.as_mut().expect("it is connected").receive().await?;
        let counts = match &message {
            ServerMessage::Forwarded { best_effort, .. } => !best_effort,
            ServerMessage::Goodbye { .. } => false,
            _ => true,
        };
        self.received += u64::from(counts);
        Ok(message)
    }

    /// Tells the server what has arrived.
    pub async fn acknowledge(&mut self) {
        self.send(None, ClientMessage::Ping { received: Some(self.received) }).await;
    }

    /// Loses the connection.
    pub fn cut(&mut self, cut: Cut) {
        let Some(client) = self.client.take() else { return };
        match cut {
            Cut::Reset if !client.is_webtransport() => client.abort(),
            Cut::Reset | Cut::LeftBehind => self.left_behind.push(client),
        }
    }

    /// Comes back by this door, and says again what the server has not received. Whether its session went on.
    pub async fn resume(&mut self, door: Door) -> bool {
        let mut client = within("a connection", self.connector.connect(door)).await.expect("a connection");
        let resume = Some(Resume { token: Some(self.token), received: self.received });
        client.send(&Request { id: None, message: ClientMessage::Hello { resume } }).await.expect("a connection");
        let welcome = welcome(&mut client).await;
        self.token = welcome.resume_token;
        if !welcome.resumed {
            assert_ne!(welcome.peer_id, self.peer_id);
            assert_eq!(welcome.received, 0);
            (self.peer_id, self.received, self.sent) = (welcome.peer_id, 1, 1);
            self.unacknowledged.clear();
            self.client = Some(client);
            return false;
        }
        assert_eq!(welcome.peer_id, self.peer_id);
        let known = self.sent - self.unacknowledged.len() as u64;
        assert!((known..=self.sent).contains(&welcome.received), "{} of {}", welcome.received, self.sent);
        self.unacknowledged.drain(..(welcome.received - known) as usize);
        for request in &self.unacknowledged {
            client.send(request).await.expect("a connection");
        }
        self.client = Some(client);
        true
    }

    /// Closes as the door provides for it.
    pub async fn leave(mut self) {
        if let Some(client) = self.client.take() {
            within("a close", client.close()).await;
        }
    }
}

async fn welcome(client: &mut Client) -> Welcome {
    match within("a welcome", client.receive()).await {
        Ok(ServerMessage::Welcome(welcome)) => *welcome,
        other => panic!("no welcome but {other:?}"),
    }
}
