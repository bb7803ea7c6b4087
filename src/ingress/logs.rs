//! In whose name a connection's task logs.
//!
//! There is one span for each connection, entered for all that its task does, and it is of the level `debug`: nothing is logged of a single client above
//! that, and a span takes memory and time that an idle connection is not to cost. At the default level there is none. A session that began before the
//! level was changed goes on without.

use std::future::Future;

use tracing::{Instrument as _, Span, debug_span, field};

use crate::{metrics::Door, protocol::PeerId};

/// That of a connection whose client comes in by this door, and speaks this dialect. Who it is is known later.
pub fn span(door: Door, dialect: &'static str) -> Span {
    debug_span!("session", door = door.name(), dialect, peer_id = field::Empty)
}

/// Runs a connection on this thread. Where nothing is logged of it, the task is no larger for the span.
pub fn spawn_in(span: Span, connection: impl Future<Output = ()> + 'static) {
    if span.is_disabled() {
        actix_rt::spawn(connection);
    } else {
        actix_rt::spawn(connection.instrument(span));
    }
}

/// Tells who the client of this connection is.
pub fn is_peer(peer_id: PeerId) {
    Span::current().record("peer_id", field::display(peer_id));
}
