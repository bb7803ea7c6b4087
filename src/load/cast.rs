//! Who speaks, and who hears what, in each scenario.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::{
    Address, LoadError, Member, Pace, Plan, Scenario, Signal, Speech, Template,
    books::{Book, Turns},
    hearing::{Ear, Listener, Listening, Visits},
    payload::payload,
    speaking::{Circle, Speaker, Visitor, Words},
};

/// Everybody's part.
#[derive(Default)]
pub struct Cast {
    /// By the clients' numbers.
    pub ears: Vec<Ear>,
    pub listeners: Vec<Listener>,
    /// Who speaks at a rate, or when what it said has been heard by a circle.
    pub speakers: Vec<(Speaker, Option<Arc<Circle>>)>,
    pub visitors: Vec<Visitor>,
}

impl Cast {
    /// Gives the clients of each room their parts.
    pub fn new<S: Speech>(speech: &S, plan: &Plan, rooms: Vec<Vec<Member>>) -> Result<Self, LoadError> {
        let mut cast = Self::default();
        for room in rooms {
            match plan.scenario {
                Scenario::Forward { signal, bytes, .. } => cast.pair(speech, plan.pace, signal, bytes, room)?,
                Scenario::Broadcast { bytes, .. } => cast.audience(speech, plan.pace, bytes, room)?,
                Scenario::Churn { .. } => cast.visits(speech, plan.pace, room),
                Scenario::Idle { .. } | Scenario::Connect { .. } => unreachable!("nobody says anything there"),
            }
        }
        // At a rate all of one side speak, then all of the other.
        if let Scenario::Forward { .. } = plan.scenario {
            cast.speakers.sort_by_key(|(speaker, _)| speaker.number % 2);
        }
        Ok(cast)
    }

    fn pair<S: Speech>(&mut self, speech: &S, pace: Pace, signal: Signal, bytes: usize, room: Vec<Member>) -> Result<(), LoadError> {
        let addresses: Vec<Address> = room.iter().map(|member| member.address.clone()).collect();
        for (at, member) in room.into_iter().enumerate() {
            let (own, other) = (&addresses[at], &addresses[1 - at]);
            let frame = speech.forward(signal, own, other, &payload(signal, bytes));
            let template = Template::new(frame.ok_or_else(|| none(speech, "messages to one peer"))?)?;
            let speaker = Speaker { number: own.number as u32, said: 0, words: Words::Marked(member.wire.sender.clone(), template) };
            let mut listener = listener(member, Listening::Marked, None);
            match pace {
                Pace::Rate(_) => self.speakers.push((speaker, None)),
                Pace::InFlight(_) => listener.reply = Some(speaker),
            }
            self.ears.push(Ear::Marked(vec![(other.number as u32, Book::default())]));
            self.listeners.push(listener);
        }
        Ok(())
    }

    fn audience<S: Speech>(&mut self, speech: &S, pace: Pace, bytes: usize, room: Vec<Member>) -> Result<(), LoadError> {
        let first = &room[0];
        let number = first.address.number as u32;
        let signal = if bytes < 1000 { Signal::Candidate } else { Signal::Offer };
        let frame = speech.broadcast(&first.address, &payload(signal, bytes)).ok_or_else(|| none(speech, "broadcast"))?;
        let words = Words::Marked(first.wire.sender.clone(), Template::new(frame)?);
        let circle = circle(pace, room.len() - 1, 0);
        self.speakers.push((Speaker { number, said: 0, words }, circle.clone()));
        for (at, member) in room.into_iter().enumerate() {
            let heard = if at == 0 { vec![] } else { vec![(number, Book::default())] };
            self.ears.push(Ear::Marked(heard));
            self.listeners.push(listener(member, Listening::Marked, circle.clone()));
        }
        Ok(())
    }

    /// The last one of the room comes and goes; it is in.
    fn visits<S: Speech>(&mut self, speech: &S, pace: Pace, mut room: Vec<Member>) {
        let visitor = room.pop().expect("a room has members");
        let number = visitor.address.number;
        let has_presence = speech.has_presence();
        let residents = room.iter().map(|member| member.address.id.clone().into_bytes()).collect();
        // It came before anything was due.
        let visits = Arc::new(Visits { dues: Mutex::new(vec![0]), residents });
        let circle = circle(pace, if has_presence { room.len() } else { 1 }, u64::from(!has_presence));
        for member in room {
            self.ears.push(if has_presence {
                Ear::Turns { visitor: number as u32, turns: Turns::default(), visits: visits.clone() }
            } else {
                Ear::Marked(vec![])
            });
            let listening = if has_presence { Listening::Presence(visits.clone()) } else { Listening::Nothing };
            self.listeners.push(listener(member, listening, circle.clone().filter(|_| has_presence)));
        }
        self.ears.push(if has_presence {
            Ear::Marked(vec![])
        } else {
            Ear::Turns { visitor: number as u32, turns: Turns::after_the_first(), visits: visits.clone() }
        });
        let words = match speech.comings(&visitor.address) {
            Some(comings) => {
                let words = Words::Turns { sender: visitor.wire.sender.clone(), leave: comings.leave, join: comings.join, visits };
                let (listening, circle) = match has_presence {
                    true => (Listening::Nothing, None),
                    false => (Listening::Answers { joined: comings.joined, left: comings.left }, circle.clone()),
                };
                self.listeners.push(listener(visitor, listening, circle));
                words
            }
            None => {
                let (calling, calls) = mpsc::unbounded_channel();
                let Member { address, wire } = visitor;
                let circle = circle.clone();
                self.visitors.push(Visitor { number, room: address.room, wire: Some(wire), visits, calls, has_presence, circle });
                Words::Calls(calling)
            }
        };
        self.speakers.push((Speaker { number: number as u32, said: 1, words }, circle));
    }
}

fn listener(member: Member, listening: Listening, circle: Option<Arc<Circle>>) -> Listener {
    let Member { address, wire } = member;
    Listener { number: address.number as u32, sender: wire.sender, receiver: wire.receiver, listening, circle, reply: None }
}

fn circle(pace: Pace, listeners: usize, heard: u64) -> Option<Arc<Circle>> {
    match pace {
        Pace::Rate(_) => None,
        Pace::InFlight(window) => Some(Arc::new(Circle::new(listeners, window, heard))),
    }
}

fn none<S: Speech>(speech: &S, what: &str) -> LoadError {
    LoadError::speech(format!("{} knows no {what}", speech.name()))
}
