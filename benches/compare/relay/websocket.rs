//! The bare WebSocket relay. A frame from a client is unmasked into the buffer of whoever hears it, with its header written anew; all that waits for
//! a client goes out in one write.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::Ipv4Addr,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, ReadBuf},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::spawn_local,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::rooms::{Member, Room, Rooms};

/// What is read at once, into the one buffer that all connections share.
const READ_BYTES: usize = 64 * 1024;
const CLOSE: u8 = 8;

struct Shared {
    rooms: Rooms,
    scratch: RefCell<Box<[u8]>>,
}

/// Where a frame from a client lies in what was read.
struct Head {
    header: usize,
    length: usize,
}

pub async fn serve(announce: impl FnOnce(String)) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(listener.local_addr()?.to_string());
    let shared = Rc::new(Shared { rooms: Rooms::default(), scratch: vec![0; READ_BYTES].into_boxed_slice().into() });
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let shared = shared.clone();
        spawn_local(async move {
            // Whoever goes takes its connection along, and nobody else.
            let _ = serve_one(tcp, &shared).await;
        });
    }
}

async fn serve_one(mut tcp: TcpStream, shared: &Rc<Shared>) -> io::Result<()> {
    let (path, rest) = shake_hands(&mut tcp, shared).await?;
    let (mut reading, writing) = tcp.into_split();
    let (room, member) = shared.rooms.enter(&path);
    spawn_local(write_all(writing, member.clone(), shared.clone()));
    let outcome = read_all(&mut reading, rest, &room, &member, shared).await;
    shared.rooms.leave(&path, &room, &member);
    outcome
}

/// The path that was asked for, and what came behind the request.
async fn shake_hands(tcp: &mut TcpStream, shared: &Shared) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let end = loop {
        read(Pin::new(tcp), shared, |bytes| head.extend_from_slice(bytes)).await?;
        if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]);
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = text.lines().filter_map(|line| line.split_once(':'));
    let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).ok_or(io::ErrorKind::InvalidData)?.1;
    let accept = derive_accept_key(key.trim().as_bytes());
    let answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    tcp.write_all(answer.as_bytes()).await?;
    Ok((path, head[end..].to_vec()))
}

/// Reads what is there and hands it over, before anybody else uses the buffer. Nothing is an error: the end.
async fn read<R: AsyncRead>(mut half: Pin<&mut R>, shared: &Shared, each: impl FnOnce(&[u8])) -> io::Result<()> {
    let mut each = Some(each);
    poll_fn(|context| {
        let mut scratch = shared.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(half.as_mut().poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        each.take().expect("it is ready once")(buffer.filled());
        Poll::Ready(Ok(()))
    })
    .await
}

async fn read_all(half: &mut OwnedReadHalf, mut rest: Vec<u8>, room: &Room, member: &Rc<Member>, shared: &Shared) -> io::Result<()> {
    loop {
        let mut goes_on = true;
        read(Pin::new(half), shared, |bytes| {
            if rest.is_empty() {
                let used = pass_on(bytes, room, member, shared, &mut goes_on);
                rest.extend_from_slice(&bytes[used..]);
            } else {
                rest.extend_from_slice(bytes);
                let used = pass_on(&rest, room, member, shared, &mut goes_on);
                rest.drain(..used);
            }
        })
        .await?;
        if rest.is_empty() {
            rest = Vec::new();
        }
        if !goes_on {
            return Ok(());
        }
    }
}

/// Passes on every frame that is whole, and tells how many bytes that were.
fn pass_on(bytes: &[u8], room: &Room, member: &Rc<Member>, shared: &Shared, goes_on: &mut bool) -> usize {
    let mut used = 0;
    while let Some(Head { header, length }) = Head::read(&bytes[used..])
        && let Some(frame) = bytes.get(used..used + header + length)
    {
        used += frame.len();
        if frame[0] & 0x0f == CLOSE {
            *goes_on = false;
            break;
        }
        let (head, payload) = frame.split_at(header);
        shared.rooms.tell_others(room, member, |out| {
            out.push(head[0]);
            out.push(head[1] & 0x7f);
            out.extend_from_slice(&head[2..header - 4]);
            unmask(head[header - 4..].try_into().expect("a mask is four bytes"), payload, out);
        });
    }
    used
}

fn unmask(mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(payload);
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| mask[at % 4]));
    let (chunks, rest) = out[at..].as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [_, second, rest @ ..] = bytes else { return None };
        let (header, length) = match second & 0x7f {
            126 => (8, u16::from_be_bytes(*rest.first_chunk()?).into()),
            127 => (14, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            length => (6, length.into()),
        };
        Some(Self { header, length })
    }
}

async fn write_all(mut half: OwnedWriteHalf, member: Rc<Member>, shared: Rc<Shared>) {
    while let Some(waiting) = poll_fn(|context| member.poll_take(context)).await {
        if half.write_all(&waiting).await.is_err() {
            return;
        }
        shared.rooms.give_back(waiting);
    }
}
