//! What clients hear, and what it means for the books.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use memchr::memmem::find;

use super::{
    LoadError, Marker, Presence, Receiver, Sender, Speech,
    books::{Book, Faults, Turns},
    recorder::Recorder,
    run::Run,
    speaking::{Circle, Speaker},
};

/// What all clients have heard.
pub struct Hearing {
    pub recorder: Recorder,
    /// By the clients' numbers.
    pub ears: Vec<Ear>,
}

/// What one client is to hear, and has heard.
pub enum Ear {
    /// Messages from these.
    Marked(Vec<(u32, Book)>),
    /// The turns of one who comes and goes.
    Turns { visitor: u32, turns: Turns, visits: Arc<Visits> },
}

/// The turns of one who comes and goes, and who is with it.
#[derive(Default)]
pub struct Visits {
    /// When each turn was due: they carry no marker.
    pub dues: Mutex<Vec<u64>>,
    /// The ids of those who stay: their coming was before the run.
    pub residents: HashSet<Vec<u8>>,
}

/// How to recognise what counts.
pub enum Listening {
    /// By the marker.
    Marked,
    /// By what the server tells of others.
    Presence(Arc<Visits>),
    /// By what it tells the one who comes and goes: where it tells the others nothing.
    Answers { joined: Vec<u8>, left: Vec<u8> },
    /// Nothing counts.
    Nothing,
}

/// One client's task.
pub struct Listener {
    pub number: u32,
    pub sender: Sender,
    pub receiver: Receiver,
    pub listening: Listening,
    /// Whom to tell that something has arrived.
    pub circle: Option<Arc<Circle>>,
    /// What to answer every message by, in a closed loop of two.
    pub reply: Option<Speaker>,
}

enum Heard {
    Message(Marker),
    Turn(bool),
}

impl Hearing {
    /// Was it due here, and for the first time? Nothing else counts.
    fn hear(&mut self, who: u32, heard: &Heard, now: u64) -> bool {
        let due = match (&mut self.ears[who as usize], heard) {
            (Ear::Marked(books), Heard::Message(marker)) => {
                // One that is astray has a book as well, and nobody who sent it.
                let at = books.iter().position(|(sender, _)| *sender == marker.sender).unwrap_or_else(|| {
                    books.push((marker.sender, Book::astray()));
                    books.len() - 1
                });
                books[at].1.hear(marker.number).then_some(marker.due)
            }
            (Ear::Turns { turns, visits, .. }, Heard::Turn(is_join)) => {
                let dues = visits.dues.lock().expect("no task panics");
                turns.hear(*is_join, dues.len() as u64).map(|number| dues[number as usize])
            }
            _ => None,
        };
        if let Some(due) = due {
            self.recorder.arrive(now, due);
        }
        due.is_some()
    }

    /// The turn of one who is told of nobody's.
    pub fn own_turn(&mut self, who: u32, is_join: bool, now: u64) {
        self.hear(who, &Heard::Turn(is_join), now);
    }
}

impl Ear {
    /// All was heard that will be.
    pub fn close(&self, said: &[AtomicU64]) -> Faults {
        let of = |sender: u32| said.get(sender as usize).map_or(0, |said| said.load(Ordering::Relaxed));
        match self {
            Self::Marked(books) => books.iter().fold(Faults::default(), |mut all, (sender, book)| {
                all += book.close(if book.is_astray() { 0 } else { of(*sender) });
                all
            }),
            Self::Turns { visitor, turns, .. } => turns.close(of(*visitor)),
        }
    }
}

impl Listening {
    fn recognise<S: Speech>(&self, speech: &S, frame: &[u8]) -> Option<Heard> {
        match self {
            Self::Marked => Marker::find(frame).map(Heard::Message),
            Self::Presence(visits) => {
                let (id, is_join) = match speech.presence(frame)? {
                    Presence::Joined(id) => (id, true),
                    Presence::Left(id) => (id, false),
                };
                (!visits.residents.contains(id)).then_some(Heard::Turn(is_join))
            }
            Self::Answers { joined, left } => {
                let holds = |bytes: &[u8]| !bytes.is_empty() && find(frame, bytes).is_some();
                if holds(joined) { Some(Heard::Turn(true)) } else { holds(left).then_some(Heard::Turn(false)) }
            }
            Self::Nothing => None,
        }
    }
}

impl Listener {
    /// Hears until the connection ends or the task is ended.
    pub async fn hear<S: Speech>(mut self, speech: Arc<S>, run: Arc<Run>) -> Result<(), LoadError> {
        loop {
            let mut arrived = 0;
            let mut now = None;
            let mut answers: Vec<Vec<u8>> = Vec::new();
            let each = |frame: &[u8]| match self.listening.recognise(&*speech, frame) {
                Some(Heard::Message(marker)) if marker.sender == self.number && speech.echoes() => {}
                Some(heard) => {
                    let now = *now.get_or_insert_with(|| run.now());
                    arrived += u64::from(run.hearing.lock().expect("no task panics").hear(self.number, &heard, now));
                }
                None => answers.extend(speech.answer(frame)),
            };
            self.receiver.receive(each).await?;
            for answer in answers {
                self.sender.send(&answer).await?;
            }
            if let Some(circle) = &self.circle {
                circle.arrive(arrived);
            }
            if let Some((speaker, now)) = self.reply.as_mut().zip(now).filter(|(_, now)| arrived > 0 && *now < run.end) {
                speaker.say(&run, arrived, now).await?;
            }
        }
    }
}
