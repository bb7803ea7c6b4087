//! Two honest clients who talk while something goes on beside them, and must not notice.

use std::time::{Duration, Instant};

use switchboard::{
    client::{Client, Connector, Door},
    protocol::{ClientMessage, Kind, Payload, PeerId, ServerMessage},
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{connect_to, hear, own_id, unanswered, within};

/// One by each transport. The first counts aloud, the second repeats every number, and each has to hear all that the other says, in order.
pub struct Bystanders {
    stop: oneshot::Sender<()>,
    talk: JoinHandle<(u32, Duration)>,
}

/// There and back, on a machine that is busy with the test.
const SLOWEST: Duration = Duration::from_secs(5);

impl Bystanders {
    /// Begins their talk in this room.
    pub async fn start(connector: &Connector, room: &str) -> Self {
        let mut echo = connect_to(connector, Door::ALL[0], room).await;
        let mut speaker = connect_to(connector, Door::WebTransport, room).await;
        let (stop, mut stopped) = oneshot::channel();
        let talk = tokio::spawn(async move {
            let (mut spoken, mut longest) = (0, Duration::ZERO);
            while stopped.try_recv().is_err() {
                let since = Instant::now();
                say(&mut speaker, own_id(&echo), spoken).await;
                assert_eq!(number(&mut echo).await, (own_id(&speaker), spoken));
                say(&mut echo, own_id(&speaker), spoken).await;
                assert_eq!(number(&mut speaker).await, (own_id(&echo), spoken));
                longest = longest.max(since.elapsed());
                spoken += 1;
            }
            (spoken, longest)
        });
        Self { stop, talk }
    }

    /// Ends it: none of their messages was lost, and none took long.
    pub async fn noticed_nothing(self) {
        // Nobody listens where the talk has failed already, which is told next.
        let _ = self.stop.send(());
        let (spoken, longest) = within("the bystanders", self.talk).await.expect("the bystanders hear each other");
        println!("bystanders: {spoken} messages there and back, the slowest took {longest:?}");
        assert!(spoken > 10 && longest < SLOWEST, "{spoken} messages there and back, the slowest took {longest:?}");
    }
}

async fn say(speaker: &mut Client, to: PeerId, number: u32) {
    let payload = Payload::from_serialize(&number).expect("a payload");
    let message = ClientMessage::Forward { kind: Kind::Message, to, room: None, payload };
    within("a bystander to be heard", speaker.send(&unanswered(message))).await.expect("it is connected");
}

/// The next message to this client alone, and who it is from.
async fn number(client: &mut Client) -> (PeerId, u32) {
    hear("a bystander's message", client, |message| match message {
        ServerMessage::Forwarded { from, payload, to: Some(_), .. } => Some((from, payload.parse().expect("a number"))),
        _ => None,
    })
    .await
}
