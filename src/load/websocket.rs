//! WebSocket frames as a client writes and reads them (RFC 6455), cheaply: a frame is copied and masked into a buffer that is written at
//! once, and read where it lies. Nothing here touches a socket.

use memchr::memmem::find;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::LoadError;

/// Largest frame, and largest message in several, that a server may send.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest head of an answer to the handshake.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The kinds of frame.
pub mod opcode {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// Where the next frame lies in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub is_final: bool,
    pub opcode: u8,
    /// Bytes before what it carries.
    pub header: usize,
    /// Bytes that it carries.
    pub length: usize,
}

impl Head {
    /// Reads it, if all of it is there.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, LoadError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (header, length) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (4, u16::from_be_bytes(*length).into()),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            length => (2, u64::from(*length)),
        };
        // A server never masks.
        if *second > 127 || length > FRAME_BYTES_MAX as u64 {
            return Err(LoadError::speech(format!("the server sent a WebSocket frame of {length} bytes that is masked or too large")));
        }
        Ok(Some(Self { is_final: first & 0x80 != 0, opcode: first & 0x0f, header, length: length as usize }))
    }
}

/// Puts a frame behind what is in `buffer`; `fill` appends what it carries, `length` bytes.
pub fn write(opcode: u8, length: usize, buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    // Never zero, which some servers take for no mask and so save the work.
    let mask = (fastrand::u32(..) | 1).to_ne_bytes();
    buffer.push(0x80 | opcode);
    match length {
        0..126 => buffer.push(0x80 | length as u8),
        126..=0xffff => {
            buffer.push(0x80 | 126);
            buffer.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            buffer.push(0x80 | 127);
            buffer.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    buffer.extend_from_slice(&mask);
    let at = buffer.len();
    fill(buffer);
    apply(mask, &mut buffer[at..]);
}

fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let wide = u128::from_ne_bytes(std::array::from_fn(|at| mask[at % 4]));
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// The request that opens a WebSocket, and what the answer has to hold.
pub fn request(host: &str, path: &str, subprotocol: Option<&str>, headers: &[(String, String)]) -> (String, String) {
    let key = generate_key();
    let mut text = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    if let Some(subprotocol) = subprotocol {
        text += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    (text, derive_accept_key(key.as_bytes()))
}

/// How long the head of the answer is, once all of it is there and it says yes.
pub fn answer(bytes: &[u8], accept: &str) -> Result<Option<usize>, LoadError> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        let too_long = bytes.len() > HEAD_BYTES_MAX;
        return if too_long { Err(LoadError::speech("the answer to the WebSocket handshake is too long")) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().unwrap_or_default();
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    if !status.starts_with("HTTP/1.1 101")
        || !headers.any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == accept)
    {
        return Err(LoadError::speech(format!("the server opens no WebSocket: {status}")));
    }
    Ok(Some(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_meant_under_its_mask() {
        for length in [0_usize, 1, 15, 16, 125, 126, 2048, 65_535, 65_536] {
            let text: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut buffer = b"earlier".to_vec();
            write(opcode::TEXT, length, &mut buffer, |buffer| buffer.extend_from_slice(&text));
            let mut frame = buffer.split_off(7);
            assert_eq!(frame[0], 0x81);
            frame[1] &= 0x7f;
            let head = Head::read(&frame).unwrap().unwrap();
            assert_eq!((head.length, head.is_final, head.opcode), (length, true, opcode::TEXT));
            let (mask, carried) = frame[head.header..].split_first_chunk_mut::<4>().unwrap();
            assert_ne!(*mask, [0; 4]);
            apply(*mask, carried);
            assert_eq!(carried, text);
        }
    }

    #[test]
    fn a_head_is_waited_for_and_a_masked_one_refused() {
        let bytes = [0x82, 126, 1, 0];
        for cut in 0..bytes.len() {
            assert_eq!(Head::read(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(Head::read(&bytes).unwrap(), Some(Head { is_final: true, opcode: 2, header: 4, length: 256 }));
        assert!(Head::read(&[0x81, 0x81, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn only_the_right_answer_opens() {
        let (request, accept) = request("localhost:1", "/ws", Some("a"), &[("X".into(), "y".into())]);
        assert!(request.starts_with("GET /ws HTTP/1.1\r\n") && request.contains("X: y\r\n") && request.ends_with("\r\n\r\n"));
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {accept}\r\n\r\nrest");
        assert_eq!(answer(good.as_bytes(), &accept).unwrap(), Some(good.len() - 4));
        assert_eq!(answer(b"HTTP/1.1 101 S", &accept).unwrap(), None);
        assert!(answer(b"HTTP/1.1 403 No\r\n\r\n", &accept).is_err());
    }
}
