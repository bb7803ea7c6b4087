//! What may be asked and done, one function for each path; described in `openapi.json`, which the tests compare with what is answered.

use std::{str::FromStr as _, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{self, Data},
};
use futures_util::{StreamExt as _, future::join_all};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;
use tracing::info;

use super::{Desk, events, not_allowed, problem::Problem, query::Query, room_name};
use crate::{
    config::{ForeignDialect, log_filter_fault},
    protocol::{Codec, Object, Payload, PeerId, RoomId},
    registry::{
        command::{CloseRoom, FindPeer, FindRoom, ListPeers, ListRooms},
        inlet::Inlet,
        rooms::Published,
        view::{MemberView, Page, RoomView, SessionView},
    },
};

/// What a path means.
enum Resource {
    Metrics,
    Rooms,
    Room(RoomId),
    Events(RoomId),
    Messages(RoomId),
    Peers,
    Peer(PeerId),
    Drain,
    LogLevel,
    Config,
}

/// Answers who has the token.
pub async fn answer(request: &HttpRequest, body: web::Payload, desk: &Data<Desk>) -> Result<HttpResponse, Problem> {
    let resource = resource(request.uri().path())?;
    let allowed = match resource {
        Resource::Room(_) | Resource::Peer(_) => "GET, HEAD, DELETE",
        Resource::Messages(_) | Resource::Drain => "POST",
        Resource::LogLevel => "GET, HEAD, PUT",
        Resource::Events(_) => "GET",
        Resource::Metrics | Resource::Rooms | Resource::Peers | Resource::Config => "GET, HEAD",
    };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        return Err(not_allowed(request, allowed));
    }
    let query = |known: &[&'static str]| Query::parse(request, known);
    match (resource, request.method()) {
        (Resource::Metrics, _) => {
            query(&[])?;
            Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((desk.metrics)()))
        }
        (Resource::Rooms, _) => rooms(desk, &query(&["limit", "after", "dialect"])?).await,
        (Resource::Room(room), &Method::DELETE) => {
            query(&[])?;
            close_room(desk, room).await
        }
        (Resource::Room(room), _) => one_room(desk, room, &query(&["limit", "after"])?).await,
        (Resource::Events(room), _) => events::stream(request, desk, room, &query(&["limit"])?).await,
        (Resource::Messages(room), _) => {
            query(&[])?;
            publish(request, body, desk, room).await
        }
        (Resource::Peers, _) => peers(desk, &query(&["limit", "after"])?).await,
        (Resource::Peer(peer_id), method) => {
            query(&[])?;
            let inlet = desk.registry.send(FindPeer(peer_id)).await.map_err(|_| Problem::gone())?.ok_or_else(Problem::no_such_peer)?;
            if *method == Method::DELETE {
                inlet.remove();
                info!(%peer_id, "a peer is removed by the administration");
                return Ok(HttpResponse::NoContent().finish());
            }
            let view = describe(&*inlet).await.ok_or_else(Problem::no_such_peer)?;
            Ok(found(&peer(peer_id, &view)))
        }
        (Resource::Drain, _) => {
            query(&[])?;
            let clients = (desk.clients)();
            info!(clients, "the administration ends the server");
            (desk.drain)();
            Ok(HttpResponse::Accepted().json(json!({ "clients": clients })))
        }
        (Resource::LogLevel, method) => {
            query(&[])?;
            log_level(request, body, desk, *method == Method::PUT).await
        }
        (Resource::Config, _) => {
            query(&[])?;
            Ok(config(desk))
        }
    }
}

/// What is meant by a path, as it was written: a name may hold a slash, if that is escaped.
fn resource(path: &str) -> Result<Resource, Problem> {
    let nothing = || Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing here: /openapi.json describes what there is");
    let segments: Option<Vec<String>> = path.trim_start_matches('/').split('/').map(unescaped).collect();
    let segments = segments.ok_or_else(nothing)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let room = |text: &str| room_name::parse(text).ok_or_else(Problem::no_such_room);
    Ok(match segments[..] {
        ["metrics"] => Resource::Metrics,
        ["v1", "rooms"] => Resource::Rooms,
        ["v1", "rooms", name] => Resource::Room(room(name)?),
        ["v1", "rooms", name, "events"] => Resource::Events(room(name)?),
        ["v1", "rooms", name, "messages"] => Resource::Messages(room(name)?),
        ["v1", "peers"] => Resource::Peers,
        ["v1", "peers", id] => Resource::Peer(PeerId::parse(id).ok_or_else(Problem::no_such_peer)?),
        ["v1", "drain"] => Resource::Drain,
        ["v1", "log-level"] => Resource::LogLevel,
        ["v1", "config"] => Resource::Config,
        _ => return Err(nothing()),
    })
}

/// A segment of a path without its escapes (RFC 3986 §2.1); `None` if that is no text.
fn unescaped(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            (b'%', _) => return None,
            _ => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn found(document: &Value) -> HttpResponse {
    HttpResponse::Ok().json(document)
}

const BAD_ROOM: &str = "`after` is the id of a room, as `next` says";
const BAD_PEER: &str = "`after` is the id of a peer, as `next` says";
const BAD_DIALECT: &str = "`dialect` is the name of a dialect, or `shared` for the rooms that clients of several share";
/// What rooms that clients of several dialects share are said to be of.
const SHARED: &str = "shared";

async fn rooms(desk: &Desk, query: &Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let after = query.read("after", BAD_ROOM, room_name::parse)?;
    let dialect = query.read("dialect", BAD_DIALECT, |name| match name {
        SHARED => Some(String::new()),
        _ => ForeignDialect::ALL.iter().any(|dialect| dialect.name() == name).then(|| name.to_owned()),
    })?;
    let page = desk.registry.send(ListRooms { after, dialect, limit }).await.map_err(|_| Problem::gone())?;
    Ok(found(&listed("rooms", page.map(|view| (room_name::spell(&view.id), room(&view))))))
}

/// A page of what has ids, and the id behind which the next one begins.
fn listed(key: &str, page: Page<(String, Value)>) -> Value {
    let next = page.items.last().filter(|_| page.has_more).map(|(id, _)| id.clone());
    let mut document = json!({ key: page.items.into_iter().map(|(_, item)| item).collect::<Vec<_>>() });
    if let Some(next) = next {
        document["next"] = next.into();
    }
    document
}

/// A room, as it is told.
pub fn room(view: &RoomView) -> Value {
    let dialect = view.id.dialect();
    json!({
        "id": room_name::spell(&view.id),
        "name": view.id.name(),
        "dialect": if dialect.is_empty() { SHARED } else { dialect },
        "peers": view.peers,
        "metadataBytes": view.metadata_bytes,
        "quiet": view.is_quiet,
    })
}

/// One who is in a room, as it is told.
pub fn member(view: &MemberView) -> Value {
    let mut document = json!({ "peerId": view.peer_id.to_string() });
    if let Some(name) = &view.name {
        document["name"] = name.as_str().into();
    }
    if let Some(user) = &view.user {
        document["user"] = (**user).into();
    }
    if let Some(metadata) = &view.metadata {
        // What is no JSON for us may still be good for clients, which see it.
        document["metadata"] = serde_json::from_slice(&metadata.spell(Codec::Json)).unwrap_or_default();
    }
    document
}

fn peer(peer_id: PeerId, view: &SessionView) -> Value {
    let mut document = json!({
        "peerId": peer_id.to_string(),
        "rooms": view.rooms.iter().map(room_name::spell).collect::<Vec<_>>(),
        "door": view.door,
        "dialect": view.dialect,
        "address": view.address,
        "connected": view.is_connected,
        "since": OffsetDateTime::from(view.since).format(&Rfc3339).expect("it is no year beyond 9999"),
        "waitingBytes": view.waiting_bytes,
    });
    if let Some(user) = &view.user {
        document["user"] = (**user).into();
    }
    document
}

async fn one_room(desk: &Desk, id: RoomId, query: &Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let after = query.read("after", BAD_PEER, PeerId::parse)?;
    let found_room = desk.registry.send(FindRoom(id)).await.map_err(|_| Problem::gone())?.ok_or_else(Problem::no_such_room)?;
    let members = found_room.members(after, limit);
    let mut document = listed("peers", members.map(|view| (view.peer_id.to_string(), member(&view))));
    document["room"] = room(&found_room.view());
    Ok(found(&document))
}

async fn close_room(desk: &Desk, id: RoomId) -> Result<HttpResponse, Problem> {
    let name = room_name::spell(&id);
    let peers = desk.registry.send(CloseRoom(id)).await.map_err(|_| Problem::gone())?.ok_or_else(Problem::no_such_room)?;
    info!(room = name, peers, "a room is closed by the administration");
    Ok(found(&json!({ "peers": peers })))
}

async fn peers(desk: &Desk, query: &Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let after = query.read("after", BAD_PEER, PeerId::parse)?;
    let Page { items, has_more } = desk.registry.send(ListPeers { after, limit }).await.map_err(|_| Problem::gone())?;
    let last = items.last().map(|(peer_id, _)| peer_id.to_string());
    let described = join_all(items.iter().map(async |(peer_id, inlet)| Some(peer(*peer_id, &describe(&**inlet).await?)))).await;
    // Those who have gone meanwhile are left out.
    let mut document = json!({ "peers": described.into_iter().flatten().collect::<Vec<_>>() });
    if let Some(last) = last.filter(|_| has_more) {
        document["next"] = last.into();
    }
    Ok(found(&document))
}

/// How long a session may take to tell what it is like. It has nothing to wait for but its turn.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(5);

async fn describe(inlet: &dyn Inlet) -> Option<SessionView> {
    timeout(DESCRIBED_WITHIN, inlet.describe()).await.ok().flatten()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
}

async fn publish(request: &HttpRequest, body: web::Payload, desk: &Desk, id: RoomId) -> Result<HttpResponse, Problem> {
    let room = desk.registry.send(FindRoom(id)).await.map_err(|_| Problem::gone())?.ok_or_else(Problem::no_such_room)?;
    let body = read(request, body, desk).await?;
    let Publish { payload } = parse(&body)?;
    let too_deep = || Problem::new(StatusCode::BAD_REQUEST, "too-deep", format!("`payload` nests more than {} deep", desk.nesting_max));
    let payload = Payload::parse_json(payload.get().to_owned(), desk.nesting_max).ok_or_else(too_deep)?;
    let Published { handed, untaken, behind } = room.publish(payload);
    if let Some(peer) = behind {
        // As every sender, this one waits for a peer that is behind, before it may say more.
        peer.eased().await;
    }
    Ok(found(&json!({ "handed": handed, "untaken": untaken })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    filter: String,
}

async fn log_level(request: &HttpRequest, body: web::Payload, desk: &Desk, is_new: bool) -> Result<HttpResponse, Problem> {
    let refuse = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad-filter", detail);
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "not-available", "the program that runs this server does not let its log be changed");
    let log = desk.program.log.as_ref().ok_or_else(missing)?;
    if is_new {
        let body = read(request, body, desk).await?;
        let Filter { filter } = parse(&body)?;
        if let Some(fault) = log_filter_fault(&filter) {
            return Err(refuse(fault));
        }
        log.set(&filter).map_err(refuse)?;
        info!(filter, "what is logged was changed by the administration");
    }
    Ok(found(&json!({ "filter": log.filter() })))
}

fn config(desk: &Desk) -> HttpResponse {
    let settings = desk.program.settings.iter().map(|setting| {
        let mut document = json!({ "name": setting.name, "value": setting.value });
        if let Some(origin) = &setting.origin {
            document["from"] = origin.to_string().into();
        }
        if setting.is_hidden {
            document["hidden"] = true.into();
        }
        document
    });
    found(&json!({ "settings": settings.collect::<Vec<_>>() }))
}

/// What stands around a payload in the largest body.
const AROUND_BYTES: usize = 256;

/// Reads a body of JSON as far as a message of a client may go.
async fn read(request: &HttpRequest, mut body: web::Payload, desk: &Desk) -> Result<Vec<u8>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "the body is JSON, and `Content-Type` says application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-content-type", detail));
    }
    let bytes_max = desk.message_bytes_max + AROUND_BYTES;
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("the body may take {bytes_max} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| usize::from_str(length.to_str().ok()?).ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| bad_body(format!("the body cannot be read: {error}")))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let too_slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the body did not come in time");
    timeout(desk.patience, reading).await.map_err(too_slow)?
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map(|Object(document)| document).map_err(|error| bad_body(error.to_string()))
}

fn bad_body(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-body", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_once_and_only_text_is_a_segment() {
        for (segment, text) in [("a", "a"), ("a%2Fb", "a/b"), ("%252f", "%2f"), ("%C3%BC+", "ü+"), ("", "")] {
            assert_eq!(unescaped(segment).as_deref(), Some(text));
        }
        for segment in ["%", "%2", "%zz", "%ff", "%C3"] {
            assert_eq!(unescaped(segment), None, "{segment}");
        }
    }
}
