//! How a room is named to whoever runs the server: in one text that says all of it, can be seen, and stands in a URL.
//!
//! A room that clients of several dialects share is called by its name. One of a dialect's own is `~DIALECT~NAME`, and of several of the same name each
//! is `~DIALECT.WHICH~NAME`. A shared room whose own name begins with `~`, or that no URL can hold (`.` and `..`), has `~~` in front.

use crate::protocol::RoomId;

/// The text for a room.
pub fn spell(id: &RoomId) -> String {
    let (dialect, name) = (id.dialect(), id.name());
    match id.which() {
        None if dialect.is_empty() && !name.starts_with('~') && !matches!(name, "." | "..") => name.to_owned(),
        None => format!("~{dialect}~{name}"),
        Some(which) => format!("~{dialect}.{which}~{name}"),
    }
}

/// The room that a text names; `None` if no room can be called so.
pub fn parse(text: &str) -> Option<RoomId> {
    let (of, name) = text.strip_prefix('~').map_or(Some(("", text)), |rest| rest.split_once('~'))?;
    // `socket.io` has no rooms of its own, so no dialect here has a dot.
    let (dialect, which) = of.split_once('.').map_or((of, None), |(dialect, which)| (dialect, Some(which)));
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    let id = RoomId::from_parts(dialect, name, which);
    (!name.is_empty() && is_plain(text) && spell(&id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_has_a_text_that_names_it_and_no_other() {
        let shared = |name: &str| RoomId::parse(name, 100).unwrap();
        let own = |name: &str| RoomId::parse_in("matchbox", name, 100).unwrap();
        let rooms = [
            (shared("kitchen"), "kitchen"),
            (shared("a/b ?#%ü"), "a/b ?#%ü"),
            (shared("~matchbox~x"), "~~~matchbox~x"),
            (shared("~"), "~~~"),
            (shared("."), "~~."),
            (shared(".."), "~~.."),
            (own("x"), "~matchbox~x"),
            (own("~x~"), "~matchbox~~x~"),
        ];
        for (room, text) in rooms {
            assert_eq!((spell(&room).as_str(), parse(text).as_ref()), (text, Some(&room)));
        }
        for room in [own("x").another(), shared("x").another()] {
            let text = spell(&room);
            assert!(text.ends_with("~x") && text.contains('.') && !text.contains(char::is_control), "{text}");
            assert_eq!(parse(&text), Some(room));
        }
        for text in ["", "~", "~~", "~x", "~matchbox~", "~~x", "..", "a\u{1}b", "~a.~x\n", "~a\u{1}b~x"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
