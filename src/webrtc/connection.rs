//! One connection to one peer: str0m, which knows neither socket nor clock, on the sockets of this machine. No task runs behind it but those that look for
//! servers: it goes on while [`Connection::next`] is waited for. An empty message arrives, but none is sent: the SCTP below would count it and leave it
//! out, and the other would wait for it before all that come behind.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    io,
    net::SocketAddr,
    task::Poll,
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use str0m::{
    Candidate, IceCreds, Input, Output, Rtc, RtcError,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    channel::ChannelConfig,
    error::SdpError,
    media::{KeyframeRequest, MediaData},
    net::{Protocol, Receive, Transmit},
};
use tokio::{
    net::lookup_host,
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tracing::debug;

use super::{
    crypto,
    gathering::{Host, Question},
    relay::{Relay, Relayed},
};
use crate::{
    client::{self, turn::TurnError},
    ice::{By, IceServer, IceUrl},
};

/// A data channel of a connection.
pub use str0m::channel::ChannelId as Channel;

/// What is sent and not yet acknowledged, in bytes: at least the largest message.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// The largest message that is taken, as browsers have it.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;
/// What the other takes in one message where it does not say so (RFC 8841 §6.1).
const MESSAGE_BYTES_UNSAID: usize = 64 * 1024;
/// So many candidates are taken from a peer, until it begins anew with ICE; a browser has a dozen.
const CANDIDATES_MAX: usize = 64;
/// So many ways to STUN and TURN servers are tried.
const SERVERS_MAX: usize = 8;
/// So many packets of relays wait to be taken.
const RELAYED_MAX: usize = 256;
/// So long relays may take to be given back.
const PARTING: Duration = Duration::from_secs(1);
/// Longest packet.
const PACKET_BYTES_MAX: usize = 2000;

/// How to reach others.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The servers that help with it.
    pub ice_servers: Vec<IceServer>,
    /// By relays alone.
    pub relays_only: bool,
    /// By loopback as well: for peers on this machine.
    pub loopback: bool,
    /// Authorities to trust beside the system's, for TURN servers over TLS.
    pub roots: Vec<CertificateDer<'static>>,
    /// Send pictures and sound back as they come.
    pub echoes_media: bool,
    /// How much may wait to be sent, in bytes, beside 1 MiB that is on its way.
    pub queued_bytes_max: usize,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// A candidate to tell the other, beside those in the description.
    Candidate(String),
    /// An ICE server is of no use, and why.
    Useless(IceUrl, TurnError),
    /// There is a way to the other.
    Found,
    /// The handshake of DTLS is done.
    Connected,
    /// The other is not heard from any more; it may be again.
    Lost,
    /// A channel is open, under its label.
    Opened(Channel, String),
    /// A channel is closed.
    Closed(Channel),
    /// Something came.
    Message(Channel, Message),
    /// All is over. Said as often as it is asked.
    Ended,
}

/// What goes through a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes, or text.
    pub is_binary: bool,
    pub data: Vec<u8>,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A description that makes no sense.
    #[error("not a session description: {0}")]
    Sdp(#[from] SdpError),
    /// One that does, but not here and now.
    #[error("{0}")]
    Rtc(#[from] RtcError),
    /// An answer without an offer.
    #[error("nothing was offered")]
    NotOffered,
    /// More waits than [`Options::queued_bytes_max`].
    #[error("{0} bytes wait to be sent")]
    TooMuch(usize),
    /// More than the other takes in one message.
    #[error("the other takes {0} bytes at once")]
    TooLarge(usize),
}

/// What comes of looking for a server.
enum Finding {
    Stun(SocketAddr),
    Relay(Relay),
    Useless(IceUrl, TurnError),
}

/// A connection.
pub struct Connection {
    rtc: Rtc,
    options: Options,
    hosts: Vec<Host>,
    questions: Vec<Question>,
    relays: Vec<Relay>,
    relayed: mpsc::Receiver<Relayed>,
    /// What is found of servers by tasks that end with this.
    findings: mpsc::Receiver<Finding>,
    tasks: JoinSet<()>,
    offered: Option<SdpPendingOffer>,
    /// Those of the other.
    candidates: HashSet<Candidate>,
    /// As much as the other takes in one message, or has room for here.
    message_bytes_max: usize,
    packets: VecDeque<Transmit>,
    events: VecDeque<Event>,
    queue: VecDeque<(Channel, Message)>,
    /// What waits for channels of ours that are not open yet.
    early: HashMap<Channel, Vec<Message>>,
    queued_bytes: usize,
    deadline: Instant,
    buffer: Vec<u8>,
}

impl Connection {
    /// One that has said nothing yet, and begins to look for ways.
    pub fn new(options: Options) -> Result<Self, Fault> {
        let now = Instant::now();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(crypto::provider())
            .set_sctp_max_buffered_amount(IN_FLIGHT_BYTES_MAX)
            .set_sctp_max_message_size(MESSAGE_BYTES_MAX)
            .build(now);
        let hosts = if options.relays_only { vec![] } else { Host::all(options.loopback)? };
        for host in &hosts {
            if let Ok(candidate) = Candidate::host(host.address, Protocol::Udp) {
                rtc.add_local_candidate(candidate);
            }
        }
        let (tells, findings) = mpsc::channel(SERVERS_MAX);
        let (hears, relayed) = mpsc::channel(RELAYED_MAX);
        let mut tasks = JoinSet::new();
        let servers = options.ice_servers.iter().flat_map(|server| server.urls.iter().map(move |url| (server, url)));
        let mut relaying = vec![];
        for (server, url) in servers.take(SERVERS_MAX) {
            let Some(by) = url.by() else { continue };
            let (url, tells) = (url.clone(), tells.clone());
            if url.is_turn() {
                relaying.push((url, by, server.credential()));
            } else if by == By::Udp && !hosts.is_empty() {
                tasks.spawn(async move {
                    for server in lookup_host((url.host(), url.port())).await.into_iter().flatten() {
                        let _ = tells.send(Finding::Stun(server)).await;
                    }
                });
            }
        }
        let of_clients = client::Options { roots: options.roots.clone(), ..client::Options::default() };
        // One after the other until there is a relay: servers count them, and one is enough.
        tasks.spawn(async move {
            for (url, by, credential) in relaying {
                let mut is_told = false;
                let tell = async |relay| {
                    is_told = true;
                    // Who does not want to know any more has gone.
                    let _ = tells.send(Finding::Relay(relay)).await;
                };
                let kept = Relay::keep(&url, by, credential, of_clients.clone(), tell, hears.clone()).await;
                if let Err(error) = kept {
                    let _ = tells.send(Finding::Useless(url, error)).await;
                }
                if is_told {
                    break;
                }
            }
        });
        let mut connection = Self {
            rtc,
            options,
            hosts,
            questions: vec![],
            relays: vec![],
            relayed,
            findings,
            tasks,
            offered: None,
            candidates: HashSet::new(),
            message_bytes_max: MESSAGE_BYTES_UNSAID,
            packets: VecDeque::new(),
            events: VecDeque::new(),
            queue: VecDeque::new(),
            early: HashMap::new(),
            queued_bytes: 0,
            deadline: now,
            buffer: vec![0; PACKET_BYTES_MAX],
        };
        connection.begin();
        Ok(connection)
    }

    /// Offers one channel of this label.
    pub fn offer(&mut self, label: &str) -> String {
        let mut changes = self.rtc.sdp_api();
        changes.add_channel(label.to_owned());
        let (offer, pending) = changes.apply().expect("a channel has to be offered");
        self.offered = Some(pending);
        self.begin();
        offer.to_sdp_string()
    }

    /// Opens a channel beside one that there is.
    pub fn open(&mut self, label: &str) -> Channel {
        let config = ChannelConfig { label: label.to_owned(), ..ChannelConfig::default() };
        let channel = self.rtc.direct_api().create_data_channel(config);
        self.early.insert(channel, vec![]);
        self.begin();
        channel
    }

    /// Takes the answer to an offer.
    pub fn take_answer(&mut self, sdp: &str) -> Result<(), Fault> {
        let (sdp, candidates) = apart(sdp);
        let answer = SdpAnswer::from_sdp_string(&sdp)?;
        let pending = self.offered.take().ok_or(Fault::NotOffered)?;
        let credentials = self.rtc.direct_api().local_ice_credentials();
        let taken = self.rtc.sdp_api().accept_answer(pending, answer);
        self.go_on(&credentials, &sdp, &candidates);
        Ok(taken?)
    }

    /// Takes an offer, the first or a later one, and answers it.
    pub fn answer(&mut self, sdp: &str) -> Result<String, Fault> {
        let (sdp, candidates) = apart(sdp);
        let offer = SdpOffer::from_sdp_string(&sdp)?;
        let credentials = self.rtc.direct_api().local_ice_credentials();
        let answered = self.rtc.sdp_api().accept_offer(offer);
        self.go_on(&credentials, &sdp, &candidates);
        Ok(answered?.to_sdp_string())
    }

    /// A channel that both know of, by its number.
    pub fn agree(&mut self, number: u16, label: &str) -> Channel {
        let config = ChannelConfig { label: label.to_owned(), negotiated: Some(number), ..ChannelConfig::default() };
        let channel = self.rtc.direct_api().create_data_channel(config);
        self.early.insert(channel, vec![]);
        self.begin();
        channel
    }

    /// Takes a candidate of the other's. One that cannot be read is left: a name that only its own machine knows, or one for TCP.
    pub fn take_candidate(&mut self, text: &str) {
        self.take_candidates(&[text]);
    }

    /// Sends a message, now or when its channel is open and there is room for it. An empty one is left out.
    pub fn send(&mut self, channel: Channel, message: Message) -> Result<(), Fault> {
        if message.data.is_empty() {
            debug!("an empty message is left out");
            return Ok(());
        }
        if message.data.len() > self.message_bytes_max {
            return Err(Fault::TooLarge(self.message_bytes_max));
        }
        let queued_bytes = self.queued_bytes + message.data.len() + size_of::<Message>();
        if queued_bytes > self.options.queued_bytes_max {
            return Err(Fault::TooMuch(queued_bytes));
        }
        self.queued_bytes = queued_bytes;
        match self.early.get_mut(&channel) {
            Some(messages) => messages.push(message),
            None => self.queue.push_back((channel, message)),
        }
        self.begin();
        Ok(())
    }

    /// Closes a channel.
    pub fn close_channel(&mut self, channel: Channel) {
        self.forget(channel);
        self.rtc.direct_api().close_data_channel(channel);
        self.begin();
    }

    /// What happens next. Nothing is lost when the returned future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            self.flush().await;
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if !self.rtc.is_alive() {
                return Event::Ended;
            }
            let due = self.questions.iter().map(|question| question.due).min();
            let deadline = due.into_iter().fold(self.deadline, Instant::min);
            tokio::select! {
                (at, source, length) = poll_fn(|context| {
                    for (at, host) in self.hosts.iter().enumerate() {
                        if let Poll::Ready((source, length)) = host.poll(context, &mut self.buffer) {
                            return Poll::Ready((at, source, length));
                        }
                    }
                    Poll::Pending
                }) => {
                    let address = self.hosts[at].address;
                    let packet = self.buffer[..length].to_vec();
                    self.hear(source, address, &packet);
                }
                Some(Relayed { by, from, bytes }) = self.relayed.recv() => self.hear(from, by, &bytes),
                Some(finding) = self.findings.recv() => match finding {
                    Finding::Stun(server) => self.ask(server),
                    Finding::Relay(relay) => {
                        let candidate = Candidate::relayed(relay.relayed, relay.local, Protocol::Udp);
                        self.relays.push(relay);
                        if let Ok(candidate) = candidate {
                            self.add(candidate);
                        }
                    }
                    Finding::Useless(url, error) => return Event::Useless(url, error),
                },
                () = sleep_until(deadline.into()) => {
                    self.ask_again();
                    self.input(Input::Timeout(Instant::now()));
                }
            }
        }
    }

    /// Tells the other that this is the end.
    pub async fn close(mut self) {
        // It is the end, whatever is said of it.
        let _ = self.rtc.close();
        self.begin();
        self.flush().await;
        // A relay that waits for a packet to be taken would not be given back.
        self.relayed.close();
        self.relays.clear();
        let _ = timeout(PARTING, async { while self.tasks.join_next().await.is_some() {} }).await;
    }

    /// What follows from a description, whose candidates are taken as if they came one by one: so many that there is an end of it.
    fn go_on(&mut self, credentials: &IceCreds, sdp: &str, candidates: &[&str]) {
        // It has begun anew, and knows none any more.
        if self.rtc.direct_api().local_ice_credentials() != *credentials {
            self.candidates.clear();
        }
        if let Some(said) = sdp.lines().find_map(|line| line.strip_prefix("a=max-message-size:")?.trim().parse::<usize>().ok()) {
            self.message_bytes_max = if said == 0 { IN_FLIGHT_BYTES_MAX } else { said.min(IN_FLIGHT_BYTES_MAX) };
        }
        self.begin();
        self.take_candidates(candidates);
    }

    fn take_candidates(&mut self, texts: &[&str]) {
        for text in texts {
            if self.candidates.len() >= CANDIDATES_MAX {
                debug!("it has more candidates than are taken");
                break;
            }
            if let Ok(candidate) = Candidate::from_sdp_string(text)
                && self.candidates.insert(candidate.clone())
            {
                self.rtc.add_remote_candidate(candidate);
            }
        }
        self.begin();
    }

    /// Lets go of what waits for a channel to be open.
    fn forget(&mut self, channel: Channel) {
        for message in self.early.remove(&channel).into_iter().flatten() {
            self.queued_bytes -= message.data.len() + size_of::<Message>();
        }
    }

    /// A packet from a peer, or from a STUN server.
    fn hear(&mut self, source: SocketAddr, destination: SocketAddr, packet: &[u8]) {
        if let Some(at) = self.questions.iter().position(|question| question.from == destination && question.to == source)
            && let Some(mapped) = self.questions[at].answer(destination, source, packet)
        {
            self.questions.swap_remove(at);
            if let Ok(candidate) = Candidate::server_reflexive(mapped, destination, Protocol::Udp) {
                self.add(candidate);
            }
            return;
        }
        // What is no packet of WebRTC is for somebody else.
        if let Ok(contents) = packet.try_into() {
            self.input(Input::Receive(Instant::now(), Receive { proto: Protocol::Udp, source, destination, contents }));
        }
    }

    /// A candidate of ours, which the other is told unless it is none but another by its right name.
    fn add(&mut self, candidate: Candidate) {
        let told = self.rtc.add_local_candidate(candidate).map(Candidate::to_sdp_string);
        self.events.extend(told.map(Event::Candidate));
        self.begin();
    }

    fn ask(&mut self, server: SocketAddr) {
        let hosts = self.hosts.iter().map(|host| host.address).filter(|host| Question::makes_sense(*host, server));
        let now = Instant::now();
        self.questions.extend(hosts.map(|host| Question::new(host, server, now)));
    }

    fn ask_again(&mut self) {
        let now = Instant::now();
        let packets = &mut self.packets;
        self.questions.retain_mut(|question| {
            if question.due > now {
                return true;
            }
            let (source, destination) = (question.from, question.to);
            let goes_on = question.ask(now);
            if goes_on {
                packets.push_back(Transmit { proto: Protocol::Udp, source, destination, contents: question.bytes.clone().into() });
            }
            goes_on
        });
    }

    /// Takes what a change has brought, and begins with what it makes possible: without the time ICE has no reason to.
    fn begin(&mut self) {
        self.settle();
        self.input(Input::Timeout(Instant::now()));
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            debug!(%error, "a packet is not taken");
        }
        self.settle();
    }

    /// Takes all that there is to send and to tell, as has to be done after every change.
    fn settle(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(packet)) => self.packets.push_back(packet),
                Ok(Output::Event(event)) => self.told(event),
                Ok(Output::Timeout(deadline)) => {
                    self.deadline = deadline;
                    if !self.send_queued() {
                        return;
                    }
                }
                Err(error) => {
                    debug!(%error, "a connection is over");
                    self.rtc.disconnect();
                    return;
                }
            }
        }
    }

    fn told(&mut self, event: str0m::Event) {
        use str0m::{Event as Told, IceConnectionState as Ice};
        let event = match event {
            Told::IceConnectionStateChange(Ice::Connected | Ice::Completed) => Some(Event::Found),
            Told::IceConnectionStateChange(Ice::Disconnected) => Some(Event::Lost),
            Told::Connected => Some(Event::Connected),
            Told::ChannelOpen(channel, label) => {
                let early = self.early.remove(&channel).into_iter().flatten();
                self.queue.extend(early.map(|message| (channel, message)));
                Some(Event::Opened(channel, label))
            }
            Told::ChannelClose(channel) => {
                self.forget(channel);
                Some(Event::Closed(channel))
            }
            Told::ChannelData(came) => Some(Event::Message(came.id, Message { is_binary: came.binary, data: came.data })),
            Told::MediaData(frame) if self.options.echoes_media => {
                self.send_frame(frame);
                None
            }
            Told::KeyframeRequest(wish) if self.options.echoes_media => {
                self.ask_for_keyframe(wish);
                None
            }
            _ => None,
        };
        self.events.extend(event);
    }

    /// The picture that the other wants complete is its own.
    fn ask_for_keyframe(&mut self, wish: KeyframeRequest) {
        if let Some(mut writer) = self.rtc.writer(wish.mid) {
            // It can be asked for only where the other sends.
            let _ = writer.request_keyframe(wish.rid, wish.kind);
        }
    }

    fn send_frame(&mut self, frame: MediaData) {
        if let Some(writer) = self.rtc.writer(frame.mid)
            && let Some(payload_type) = writer.match_params(frame.params)
        {
            // The other may not want any.
            let _ = writer.write(payload_type, frame.network_time, frame.time, frame.data);
        }
    }

    /// Sends what waits, as much of it as there is room for. Was it anything?
    fn send_queued(&mut self) -> bool {
        let mut has_sent = false;
        while let Some((channel, message)) = self.queue.front() {
            // To one that is closed nothing can be sent.
            let written = self.rtc.channel(*channel).map(|mut channel| channel.write(message.is_binary, &message.data));
            match written {
                Some(Ok(false)) => break,
                Some(Ok(true)) => has_sent = true,
                None | Some(Err(_)) => {}
            }
            self.queued_bytes -= message.data.len() + size_of::<Message>();
            self.queue.pop_front();
        }
        has_sent
    }

    /// Sends the packets that are there.
    async fn flush(&mut self) {
        while let Some(packet) = self.packets.front() {
            if let Some(host) = self.hosts.iter().find(|host| host.address == packet.source) {
                // Some ways lead nowhere.
                let _ = host.socket.send_to(&packet.contents, packet.destination).await;
            }
            let packet = self.packets.pop_front().expect("it is there");
            if let Some(relay) = self.relays.iter().find(|relay| relay.relayed == packet.source) {
                relay.send(packet.destination, packet.contents);
            }
        }
    }
}

/// A description without its candidates, and those.
fn apart(sdp: &str) -> (String, Vec<&str>) {
    let (candidates, rest): (Vec<_>, Vec<_>) = sdp.lines().partition(|line| line.starts_with("a=candidate:"));
    let rest = rest.into_iter().flat_map(|line| [line, "\r\n"]).collect();
    (rest, candidates.into_iter().map(|line| line.trim_start_matches("a=")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only those that came one by one were counted: forty offers of 900 lines took 17 s of a processor.
    #[tokio::test]
    async fn no_more_candidates_are_taken_than_may_be_however_they_come() {
        let options = || Options { loopback: true, ..Options::default() };
        let (mut ann, mut bob) = (Connection::new(options()).unwrap(), Connection::new(options()).unwrap());
        let offer = ann.offer("");
        let lines = |first: usize| {
            (first..first + 900).map(|port| format!("a=candidate:1 1 udp 1 192.0.2.1 {port} typ host\r\n")).collect::<String>()
        };
        for offers in 0..10 {
            bob.answer(&(offer.clone() + &lines(10_000 + offers * 900))).unwrap();
            bob.take_candidate("candidate:1 1 udp 1 192.0.2.2 9 typ host");
            assert_eq!(bob.candidates.len(), CANDIDATES_MAX);
        }
        // Who begins anew has others.
        let other = Connection::new(options()).unwrap().offer("");
        let of_ice = |sdp: &str| sdp.lines().filter(|line| line.starts_with("a=ice-")).map(str::to_owned).collect::<Vec<_>>();
        let anew = of_ice(&offer).iter().zip(of_ice(&other)).fold(offer.clone(), |sdp, (old, new)| sdp.replace(old, &new));
        bob.answer(&anew).unwrap();
        assert!(bob.candidates.len() < CANDIDATES_MAX, "{}", bob.candidates.len());
    }
}
