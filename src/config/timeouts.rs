//! How long things may take.

use std::time::Duration;

use serde::Serialize;

use super::value::integer;

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Timeouts {
    /// From a client's connection to its first message; then `hello-timeout`.
    /// Range: 10 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_HELLO_MS", default = 10000, deserialize_with = integer::<_, _, 10, 600_000>)]
    pub hello_ms: u64,

    /// From a WebTransport session to its first stream; then `stream-timeout`.
    /// Range: 10 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_STREAM_MS", default = 10000, deserialize_with = integer::<_, _, 10, 600_000>)]
    pub stream_ms: u64,

    /// Silence of a client before it is probed.
    /// Range: 10 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS", default = 10000, deserialize_with = integer::<_, _, 10, 3_600_000>)]
    pub heartbeat_ms: u64,

    /// Silence after which a client is gone, and closed as `timeout`. Greater than heartbeat_ms.
    /// Range: 20 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SILENCE_MS", default = 25000, deserialize_with = integer::<_, _, 20, 3_600_000>)]
    pub silence_ms: u64,

    /// How long a session outlives the last sign of life of its client, who may come back in that time and resume it; then others see it
    /// leave with reason `timeout`. 0 ends a session with its connection.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS", default = 30000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub resume_window_ms: u64,

    /// How long a sender is not heard, once, while a peer that it sends to has more than half of `limits.outbox_bytes_max` to read: a burst slows
    /// down for who reads, and who does not read holds up nobody for longer. 0 does not wait.
    /// Range: 0 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SLOW_PEER_MS", default = 1000, deserialize_with = integer::<_, _, 0, 60_000>)]
    pub slow_peer_ms: u64,

    /// How long a closing connection may take to read its `goodbye`.
    /// Range: 10 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_TIMEOUTS_CLOSE_MS", default = 2000, deserialize_with = integer::<_, _, 10, 60_000>)]
    pub close_ms: u64,

    /// The time over which a shutdown spreads its goodbyes, so that clients do not all come back at once. 0 says all of them at once. It ends
    /// `close_ms` before `shutdown_grace_ms` does, so that the last one has time to read.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_DRAIN_MS", default = 3000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub drain_ms: u64,

    /// How long a shutdown waits for connections to close. 0 does not wait.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SHUTDOWN_GRACE_MS", default = 10000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub shutdown_grace_ms: u64,

    /// The longest that clients of an address wait where wrong credentials came from, see limits.address_failures_max. Clients give up after ten seconds, so
    /// with more than nine a genuine one may not come in. 0 does not wait.
    /// Range: 0 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_FAILURE_DELAY_MS", default = 5000, deserialize_with = integer::<_, _, 0, 600_000>)]
    pub failure_delay_ms: u64,

    /// How often the files of the certificate and of keys for tokens are looked at, to take new ones, or to make a certificate in time.
    /// Range: 10 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_CERTIFICATE_CHECK_MS", default = 5000, deserialize_with = integer::<_, _, 10, 3_600_000>)]
    pub certificate_check_ms: u64,
}

impl Timeouts {
    /// From a client's connection to its first message.
    pub fn hello(&self) -> Duration {
        Duration::from_millis(self.hello_ms)
    }

    /// From a WebTransport session to its first stream.
    pub fn stream(&self) -> Duration {
        Duration::from_millis(self.stream_ms)
    }

    /// Silence of a client before it is probed.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Silence after which a client is gone.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    /// How long a session outlives its client's last sign of life.
    pub fn resume_window(&self) -> Duration {
        Duration::from_millis(self.resume_window_ms)
    }

    /// How long who sends to a peer waits for it when it has much to read.
    pub fn slow_peer(&self) -> Duration {
        Duration::from_millis(self.slow_peer_ms)
    }

    /// How long a closing connection may take to read its goodbye.
    pub fn close(&self) -> Duration {
        Duration::from_millis(self.close_ms)
    }

    /// The time over which a shutdown spreads its goodbyes: so long that the last to be told can still read it.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.min(self.shutdown_grace_ms.saturating_sub(self.close_ms)))
    }

    /// How long a shutdown waits for connections to close.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    /// The longest wait before a credential is looked at.
    pub fn failure_delay(&self) -> Duration {
        Duration::from_millis(self.failure_delay_ms)
    }

    /// How often the files of the certificate and of keys are looked at.
    pub fn certificate_check(&self) -> Duration {
        Duration::from_millis(self.certificate_check_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_handed_out_as_durations() {
        let timeouts = Timeouts {
            hello_ms: 1,
            stream_ms: 2,
            heartbeat_ms: 3,
            silence_ms: 4,
            resume_window_ms: 5,
            slow_peer_ms: 17,
            close_ms: 6,
            drain_ms: 7,
            shutdown_grace_ms: 15,
            failure_delay_ms: 18,
            certificate_check_ms: 16,
        };
        let all = [
            timeouts.hello(),
            timeouts.stream(),
            timeouts.heartbeat(),
            timeouts.silence(),
            timeouts.resume_window(),
            timeouts.close(),
            timeouts.drain(),
            timeouts.shutdown_grace(),
            timeouts.certificate_check(),
            timeouts.slow_peer(),
            timeouts.failure_delay(),
        ];
        assert_eq!(all.map(|duration| duration.as_millis()), [1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]);
        let late = Timeouts { drain_ms: 10, ..timeouts };
        assert_eq!(late.drain().as_millis(), 9, "whoever is told last has its time to read it");
    }
}
