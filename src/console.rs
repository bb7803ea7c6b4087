//! `switchboard admin`: speaks to the administration of a running server, with tables for people and JSON for scripts.
//!
//! What strangers wrote (names, metadata) ends on a terminal here, so nothing of it can move a cursor or turn the direction of what is written.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use reqwest::{Client, Method, Response, StatusCode, Url, header};
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde_json::{Value, json};
use switchboard::config::Sources;

use crate::{cli, health::nearby};

/// What is asked of which server.
#[derive(Args)]
pub struct Arguments {
    /// Where the administration listens [default: the server's admin_listen, or http://127.0.0.1:9090]
    #[arg(long, value_name = "URL", global = true)]
    url: Option<String>,

    /// The file with its token [default: the server's admin.token_file]
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,

    /// The server's configuration file, for both [env: SWITCHBOARD_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Print what the server answers, as JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Rooms, and how many are in each
    Rooms {
        /// So many at the most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Only those of this dialect; shared: those that clients of several share
        #[arg(long, value_name = "NAME")]
        dialect: Option<String>,
    },
    /// Peers: where they are, by which door they came, and what waits for them
    Peers {
        /// So many at the most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// One room, and who is there
    Room {
        /// Its id, as `rooms` tells it
        room: String,
        /// Go on to tell what happens there
        #[arg(long)]
        follow: bool,
    },
    /// End a peer's session
    Kick {
        /// Its id, as `peers` tells it
        peer: String,
    },
    /// Send everybody out of a room
    Close {
        /// Its id, as `rooms` tells it
        room: String,
    },
    /// Say something to everybody in a room
    Publish {
        /// Its id, as `rooms` tells it
        room: String,
        /// What clients get, any JSON value
        payload: String,
    },
    /// Shut the server down, as SIGTERM does
    Drain,
    /// Tell what the server logs, or have it log something else until it ends
    LogLevel {
        /// As in the setting log: info, or info,switchboard=debug
        filter: Option<String>,
    },
    /// The settings in force, and where each was written
    Config,
    /// All metrics, as Prometheus reads them
    Metrics,
}

/// Where an administration is unless somebody says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9090";
/// How much of a list is asked for at once.
const PAGE: usize = 1000;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Asks, and prints the answer.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Console::new(arguments)?.act(&arguments.action).await })
}

struct Console {
    http: Client,
    url: Url,
    token: String,
    token_file: PathBuf,
    json: bool,
}

impl Console {
    fn new(Arguments { url, token_file, config, json, .. }: &Arguments) -> anyhow::Result<Self> {
        let (config, _) = cli::settings(Sources::new(), config.clone())?;
        let own = config.admin_listen.as_ref().map(|listen| format!("http://{}", nearby(listen.addresses()[0])));
        let url = url.as_ref().or(own.as_ref()).map_or(DEFAULT_URL, String::as_str);
        let token_file = token_file.as_ref().unwrap_or(&config.admin.token_file);
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/");
        let parsed = parsed.with_context(|| format!("--url: {url:?} is not the URL of an administration, as http://127.0.0.1:9090 is"))?;
        let token = fs::read_to_string(token_file).with_context(|| {
            let path = token_file.display();
            format!("{path} cannot be read: a server with admin_listen makes it on its first start, --token-file says where it is")
        });
        let token = token.map_err(|error| anyhow!("{error} ({})", error.root_cause()))?;
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into()).with_safe_default_protocol_versions()?;
        let tls = tls.with_platform_verifier()?.with_no_client_auth();
        // A proxy, or another server that it is sent to, would get the token.
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).tls_backend_preconfigured(tls).build()?;
        Ok(Self { http, url: parsed, token: token.trim().to_owned(), token_file: token_file.clone(), json: *json })
    }

    async fn act(&self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::Rooms { limit, dialect } => {
                let query: Vec<_> = dialect.iter().map(|dialect| ("dialect", dialect.clone())).collect();
                let (rooms, has_more) = self.list("rooms", &query, *limit).await?;
                self.tell_list("rooms", rooms, has_more, "there are no rooms\n", &ROOM)
            }
            Action::Peers { limit } => {
                let (peers, has_more) = self.list("peers", &[], *limit).await?;
                self.tell_list("peers", peers, has_more, "nobody is here\n", &PEER)
            }
            Action::Room { room, follow: true } => self.follow(room).await,
            Action::Room { room, follow: false } => {
                let found = self.get(&["v1", "rooms", &id(room)], &[("limit", PAGE.to_string())]).await?;
                self.tell(&found, |found| {
                    let mut text = table(std::slice::from_ref(&found["room"]), &ROOM);
                    text.push('\n');
                    text.push_str(&table(list(&found["peers"]), &MEMBER));
                    if found["next"].is_string() {
                        text.push_str("… and more\n");
                    }
                    text
                })
            }
            Action::Kick { peer } => {
                self.ask(Method::DELETE, &["v1", "peers", peer], &[], None).await?;
                self.tell(&json!({ "peerId": peer }), |_| format!("{} is being closed\n", clean(peer)))
            }
            Action::Close { room } => {
                let answer = json_of(self.ask(Method::DELETE, &["v1", "rooms", &id(room)], &[], None).await?).await?;
                self.tell(&answer, |answer| format!("{} is closed, {} were there\n", clean(room), answer["peers"]))
            }
            Action::Publish { room, payload } => {
                let payload: Value = serde_json::from_str(payload).map_err(|error| anyhow!("{payload:?} is no JSON: {error}"))?;
                let body = json!({ "payload": payload });
                let answer = json_of(self.ask(Method::POST, &["v1", "rooms", &id(room), "messages"], &[], Some(body)).await?).await?;
                self.tell(&answer, |answer| match &answer["untaken"] {
                    untaken if *untaken == 0 => format!("handed to {}\n", answer["handed"]),
                    untaken => format!("handed to {}; {untaken} did not take it and are being closed\n", answer["handed"]),
                })
            }
            Action::Drain => {
                let answer = json_of(self.ask(Method::POST, &["v1", "drain"], &[], None).await?).await?;
                self.tell(&answer, |answer| format!("the server shuts down, with {} clients\n", answer["clients"]))
            }
            Action::LogLevel { filter: None } => {
                let answer = self.get(&["v1", "log-level"], &[]).await?;
                self.tell(&answer, |answer| format!("{}\n", cell(&answer["filter"])))
            }
            Action::LogLevel { filter: Some(filter) } => {
                let body = json!({ "filter": filter });
                let answer = json_of(self.ask(Method::PUT, &["v1", "log-level"], &[], Some(body)).await?).await?;
                self.tell(&answer, |answer| format!("{} is logged from now on\n", cell(&answer["filter"])))
            }
            Action::Config => {
                let answer = self.get(&["v1", "config"], &[]).await?;
                self.tell(&answer, |answer| table(list(&answer["settings"]), &SETTING))
            }
            Action::Metrics => {
                let text = self.ask(Method::GET, &["metrics"], &[], None).await?.text().await?;
                print(&text)
            }
        }
    }

    /// As much of a list as is wanted, page by page, and whether there is more.
    async fn list(&self, key: &str, query: &[(&str, String)], limit: usize) -> anyhow::Result<(Vec<Value>, bool)> {
        let (mut all, mut after) = (vec![], None::<String>);
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (limit - all.len()).clamp(1, PAGE).to_string()));
            query.extend(after.take().map(|after| ("after", after)));
            let mut page = self.get(&["v1", key], &query).await?;
            let items = page[key].as_array_mut().map(std::mem::take);
            all.extend(items.context("the server does not answer as Switchboard does")?);
            match page["next"].as_str() {
                Some(next) if all.len() < limit => after = Some(next.to_owned()),
                next => return Ok((all, next.is_some())),
            }
        }
    }

    fn tell_list(&self, key: &str, items: Vec<Value>, has_more: bool, empty: &str, columns: &[Column]) -> anyhow::Result<()> {
        let shown = items.len();
        self.tell(&json!({ key: items, "more": has_more }), |document| match list(&document[key]) {
            [] => empty.to_owned(),
            items if has_more => format!("{}… and more than these {shown}: --limit\n", table(items, columns)),
            items => table(items, columns),
        })
    }

    /// What happens in a room, a line for each event.
    async fn follow(&self, room: &str) -> anyhow::Result<()> {
        let mut answer = self.ask(Method::GET, &["v1", "rooms", &id(room), "events"], &[], None).await?;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| anyhow!("the server has ended this: {}", error.without_url()))? {
            text.extend_from_slice(&chunk);
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                if let Some((name, data)) = event.trim_end().strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")) {
                    let data: Value = serde_json::from_str(data)?;
                    print(&if self.json {
                        format!("{}\n", json!({ "event": name, "data": data }))
                    } else {
                        format!("{:<9} {}\n", clean(name), clean(&data.to_string()))
                    })?;
                }
            }
        }
        Ok(())
    }

    async fn get(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        json_of(self.ask(Method::GET, path, query, None).await?).await
    }

    /// An answer that is none of what may be wrong, each of which is told in words.
    async fn ask(&self, method: Method, path: &[&str], query: &[(&str, String)], body: Option<Value>) -> anyhow::Result<Response> {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("it has a host").clear().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let is_long = path.last() == Some(&"events");
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if !is_long {
            request = request.timeout(ANSWER);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let problem: Value = answer.json().await.unwrap_or_default();
        match (status, problem["detail"].as_str()) {
            (StatusCode::UNAUTHORIZED, _) => {
                bail!("{} does not hold the token of the server at {}: --token-file names another", self.token_file.display(), self.url)
            }
            (_, Some(detail)) => bail!("{} ({})", clean(detail), cell(&problem["code"])),
            _ => bail!(
                "{} answers with {status}: is it the administration of Switchboard (admin_listen), and not its public port?",
                self.url
            ),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let error = anyhow!(error.without_url());
        let cause = error.root_cause().to_string();
        anyhow!("no server answers at {}: is it running, with admin_listen (--admin-listen 127.0.0.1:9090)? ({cause})", self.url)
    }

    fn tell(&self, document: &Value, spell: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        print(&if self.json { format!("{document}\n") } else { spell(document) })
    }
}

/// The id of a room as it was given; two cannot stand in a URL.
fn id(room: &str) -> String {
    if matches!(room, "." | "..") { format!("~~{room}") } else { room.to_owned() }
}

async fn json_of(answer: Response) -> anyhow::Result<Value> {
    answer.json().await.map_err(|error| anyhow!("the server does not answer as Switchboard does: {}", error.without_url()))
}

/// A column of a table: its head, the field, and whether that is a number.
type Column = (&'static str, &'static str, bool);

const ROOM: [Column; 4] =
    [("ROOM", "id", false), ("DIALECT", "dialect", false), ("PEERS", "peers", true), ("METADATA", "metadataBytes", true)];
const PEER: [Column; 8] = [
    ("PEER", "peerId", false),
    ("USER", "user", false),
    ("DOOR", "door", false),
    ("DIALECT", "dialect", false),
    ("ADDRESS", "address", false),
    ("SINCE", "since", false),
    ("WAITING", "waitingBytes", true),
    ("ROOMS", "rooms", false),
];
const MEMBER: [Column; 4] = [("PEER", "peerId", false), ("NAME", "name", false), ("USER", "user", false), ("METADATA", "metadata", false)];
const SETTING: [Column; 3] = [("SETTING", "name", false), ("VALUE", "value", false), ("FROM", "from", false)];

/// The widest that a cell gets.
const CELL_CHARS: usize = 60;

fn table(items: &[Value], columns: &[Column]) -> String {
    let text =
        |item: &Value, field: &str| if item["hidden"] == true && field == "value" { "(hidden)".to_owned() } else { cell(&item[field]) };
    // A column that nobody has anything in says nothing.
    let columns: Vec<&Column> = columns.iter().filter(|(_, field, _)| items.iter().any(|item| !item[*field].is_null())).collect();
    let head = columns.iter().map(|(head, ..)| (*head).to_owned()).collect::<Vec<_>>();
    let rows = items.iter().map(|item| columns.iter().map(|(_, field, _)| text(item, field)).collect());
    let rows: Vec<Vec<String>> = [head].into_iter().chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), (_, _, is_number)) in row.iter().zip(&widths).zip(&columns) {
            let _ = if *is_number { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value in a cell: text as it is, a list by commas, nothing as nothing.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let text = clean(&text);
    match text.char_indices().nth(CELL_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Without what moves a cursor, or turns the direction of what is written (UAX #9).
fn clean(text: &str) -> String {
    let is_dangerous = |char: char| {
        char.is_control() || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().flat_map(|char| if is_dangerous(char) { char.escape_unicode().collect::<Vec<_>>() } else { vec![char] }).collect()
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `switchboard admin rooms | head` has read what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_has_to_be_and_moves_no_cursor() {
        let rooms = [
            json!({"id": "a", "dialect": "shared", "peers": 1, "metadataBytes": 0}),
            json!({"id": "\u{1b}[2J\u{202e}ü", "dialect": "peerjs", "peers": 1000, "metadataBytes": null}),
        ];
        let text = table(&rooms, &ROOM);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ROOM                DIALECT  PEERS  METADATA");
        assert_eq!(lines[1], "a                   shared       1         0");
        assert_eq!(lines[2], "\\u{1b}[2J\\u{202e}ü  peerjs    1000");
        assert_eq!(lines.len(), 3);
        assert_eq!(table(&[json!({"peerId": "p", "metadata": {"n": 1}})], &MEMBER), "PEER  METADATA\np     {\"n\":1}\n");
        let wide = cell(&json!("x".repeat(100)));
        assert_eq!(wide.chars().count(), CELL_CHARS + 1);
    }
}
