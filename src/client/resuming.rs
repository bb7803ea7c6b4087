//! A client whose session outlives its connections: it keeps what it sent and does not know to have arrived, and counts what it received, as
//! section 7 of the [specification](crate::protocol) has it.
//!
//! When to come back, and by which door, is for its owner to say.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use super::{Client, ConnectError, Connector, Disconnected, Door, KEPT_MESSAGES_MAX};
use crate::protocol::{ClientMessage, CloseCode, Payload, PeerId, Request, Resume, ResumeToken, ServerMessage, Token, Welcome};

/// A client over all of its connections.
pub struct ResumingClient {
    connector: Arc<Connector>,
    client: Option<Client>,
    /// What the server wants to know of whoever comes in, if it does.
    admission: Option<String>,
    /// Who it is for others.
    pub peer_id: PeerId,
    /// The secret of its session.
    pub token: ResumeToken,
    /// The ICE servers that it was told of when it came in, or last came back.
    pub ice_servers: Payload<'static>,
    /// How long its session outlives a connection; 0 if it does not.
    pub resume_window_ms: u64,
    /// How many of the server's messages it has received.
    pub received: u64,
    /// How many messages it has sent, and the latest of them.
    sent: u64,
    unacknowledged: VecDeque<Request<'static>>,
}

/// Why a client did not come in, or did not come back. It may try again.
#[derive(Debug, thiserror::Error)]
pub enum ComeInError {
    /// There was no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended before the welcome.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
}

impl ComeInError {
    /// May the next attempt go better?
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Disconnected(Disconnected { code, .. }) => {
                let code = CloseCode::ALL.iter().find(|known| Some(known.number()) == *code);
                code.is_none_or(|code| code.reconnect())
            }
        }
    }
}

impl ResumingClient {
    /// Comes in by this door, and is welcomed.
    pub async fn connect(connector: &Arc<Connector>, door: Door) -> Result<Self, ComeInError> {
        Self::connect_with(connector, door, None).await
    }

    /// The same at a server that may want to know who this is. It hears so again from whoever comes back: the session may be gone by then.
    pub async fn connect_with(connector: &Arc<Connector>, door: Door, token: Option<&str>) -> Result<Self, ComeInError> {
        let (client, welcome) = greet(connector, door, token, None).await?;
        Ok(Self {
            connector: connector.clone(),
            client: Some(client),
            admission: token.map(str::to_owned),
            peer_id: welcome.peer_id,
            token: welcome.resume_token,
            ice_servers: welcome.ice_servers,
            resume_window_ms: welcome.resume_window_ms,
            received: 1,
            sent: 1,
            unacknowledged: VecDeque::new(),
        })
    }

    /// The same client, which comes back by another way from now on.
    pub fn by(self, connector: &Arc<Connector>) -> Self {
        Self { connector: connector.clone(), ..self }
    }

    /// Is there a connection?
    pub fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// Says something, now or as soon as it is back. What is not acknowledged is kept, however much that is: whoever says much acknowledges often.
    /// Dropping the returned future ends the connection, and loses nothing.
    pub async fn send(&mut self, id: Option<u64>, message: ClientMessage<'static>) {
        let request = Request { id, message };
        self.sent += 1;
        self.unacknowledged.push_back(request.clone());
        // Taken out, so that a message that was cut off is the last on its connection.
        if let Some(mut client) = self.client.take() {
            // Whoever receives learns that the connection is over.
            let _ = client.send(&request).await;
            self.client = Some(client);
        }
    }

    /// The next message, or the end of the connection. Nothing is lost when the returned future is dropped. Called while it is
    /// connected.
    pub async fn receive(&mut self) -> Result<ServerMessage<'static>, Disconnected> {
        let message = self.client.as_mut().expect("it is connected").receive().await?;
        match &message {
            ServerMessage::Forwarded { best_effort: true, .. } | ServerMessage::Goodbye { .. } => return Ok(message),
            ServerMessage::Pong { received } => self.forget(*received),
            _ => {}
        }
        self.received += 1;
        Ok(message)
    }

    /// Tells the server what has arrived; its answer tells this client the same.
    pub async fn acknowledge(&mut self) {
        self.send(None, ClientMessage::Ping { received: Some(self.received) }).await;
    }

    /// Gives the connection up, which may still look alive to the server: that is for the caller to end, or not to end.
    pub fn leave_behind(&mut self) -> Option<Client> {
        self.client.take()
    }

    /// Comes back by this door, and says again what the server has not received. Whether the session went on; if it did not, this is a new one
    /// in no room, and what was not acknowledged is forgotten.
    pub async fn resume(&mut self, door: Door) -> Result<bool, ComeInError> {
        let resume = Resume { token: Some(self.token), received: self.received };
        let (mut client, welcome) = greet(&self.connector, door, self.admission.as_deref(), Some(resume)).await?;
        (self.peer_id, self.token, self.ice_servers) = (welcome.peer_id, welcome.resume_token, welcome.ice_servers);
        if welcome.resumed {
            if !(self.arrived()..=self.sent).contains(&welcome.received) {
                let reason = format!("the server broke the protocol: it has received {} of {} messages", welcome.received, self.sent);
                return Err(Disconnected::without_code(reason).into());
            }
            self.forget(welcome.received);
            self.repeat(&mut client).await?;
        } else {
            (self.received, self.sent) = (1, 1);
            self.unacknowledged.clear();
        }
        self.client = Some(client);
        Ok(welcome.resumed)
    }

    /// Says again what the server has not received, and keeps what it says meanwhile: while nobody reads its answers, it reads no more either.
    async fn repeat(&self, Client { sender, receiver, .. }: &mut Client) -> Result<(), Disconnected> {
        let mut repeated = pin!(async {
            for request in &self.unacknowledged {
                sender.send(request).await?;
            }
            Ok(())
        });
        loop {
            tokio::select! {
                repeated = &mut repeated => return repeated,
                heard = receiver.hear(), if receiver.kept.len() < KEPT_MESSAGES_MAX => receiver.kept.push_back(heard?),
            }
        }
    }

    /// Closes as the door provides for it, which ends the session.
    pub async fn close(mut self) {
        if let Some(client) = self.client.take() {
            client.close().await;
        }
    }

    /// How many of its messages are known to have arrived.
    fn arrived(&self) -> u64 {
        self.sent - self.unacknowledged.len() as u64
    }

    /// Lets go of what the server has received.
    fn forget(&mut self, received: u64) {
        let more = usize::try_from(received.saturating_sub(self.arrived())).unwrap_or(usize::MAX);
        self.unacknowledged.drain(..more.min(self.unacknowledged.len()));
    }
}

async fn greet(connector: &Connector, door: Door, token: Option<&str>, resume: Option<Resume>) -> Result<(Client, Welcome), ComeInError> {
    let mut client = connector.connect(door).await?;
    let token = token.map(|token| Token(token.into()));
    client.send(&Request { id: None, message: ClientMessage::Hello { token, resume } }).await?;
    match client.receive().await? {
        ServerMessage::Welcome(welcome) => Ok((client, *welcome)),
        ServerMessage::Goodbye { code, .. } => Err(Disconnected { code: Some(code.number()), reason: code.slug().into() }.into()),
        other => Err(Disconnected::without_code(format!("no welcome but {other:?}")).into()),
    }
}
