//! Settings that contradict each other, each good by itself.

use super::{Config, Limits, Rates, Timeouts, Turn, sources::Conflict};

/// Bytes that one peer takes in the list of a room, beside its metadata: its id and the keys around it, in either codec.
const PEER_ENTRY_BYTES: usize = 96;

impl Config {
    /// All of them; what is told names every setting that takes part.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut add = |settings: &'static [&'static str], problem| conflicts.push(Conflict { settings, problem });

        let both = "the two go together";
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), None) => add(&["tls_cert", "tls_key"], format!("is {cert:?}, and tls_key is not set; {both}")),
            (None, Some(key)) => add(&["tls_key", "tls_cert"], format!("is {key:?}, and tls_cert is not set; {both}")),
            (Some(_), Some(_)) | (None, None) => {}
        }

        if let Some(admin_listen) = self.admin_listen.filter(|admin_listen| admin_listen.overlaps(&self.listen)) {
            let problem =
                format!("is {admin_listen}, and listen is {}: clients are taken there already; give it another port", self.listen);
            add(&["admin_listen", "listen"], problem);
        }

        // Whoever sets one of these believes that the server asks for tokens.
        if !self.auth.asks_for_tokens() {
            let why = "no token is asked for without auth.keys or auth.jwks_url";
            if let Some(issuer) = &self.auth.issuer {
                add(&["auth.issuer", "auth.keys", "auth.jwks_url"], format!("is {issuer:?}, but {why}"));
            }
            if let Some(audience) = &self.auth.audience {
                add(&["auth.audience", "auth.keys", "auth.jwks_url"], format!("is {audience:?}, but {why}"));
            }
        }

        if let (Some(file), None) = (&self.auth.callback_secret_file, &self.auth.callback_url) {
            let problem = format!("is {file:?}, but nobody is asked without callback_url");
            add(&["auth.callback_secret_file", "auth.callback_url"], problem);
        }

        if let (Some(listen), None) = (self.turn.tls_listen, &self.tls_cert) {
            let problem = format!("tls_listen is {listen}, but there is no TLS without tls_cert");
            add(&["turn.tls_listen", "tls_cert"], problem);
        }

        // Whoever sets one of these believes that it runs.
        if !self.turn.enabled {
            let why = "no TURN server runs without enabled";
            if let Some(listen) = self.turn.listen {
                add(&["turn.listen", "turn.enabled"], format!("listen is {listen}, but {why}"));
            }
            if let Some(listen) = self.turn.tls_listen {
                add(&["turn.tls_listen", "turn.enabled"], format!("tls_listen is {listen}, but {why}"));
            }
            if let Some(address) = self.turn.external_ip.first() {
                add(&["turn.external_ip", "turn.enabled"], format!("external_ip names {address}, but {why}"));
            }
        }

        let Turn { enabled, ports, allocations_max, .. } = self.turn;
        if enabled && ports.range().len() < allocations_max {
            add(
                &["turn.ports", "turn.allocations_max"],
                format!(
                    "ports is {ports}, which are {}, but allocations_max is {allocations_max}: each allocation has a port of its own",
                    ports.range().len()
                ),
            );
        }

        let together = "turn_urls and turn_secret_files go together";
        match (&self.ice.turn_urls[..], &self.ice.turn_secret_files[..]) {
            ([url, ..], []) => {
                add(
                    &["ice.turn_urls", "ice.turn_secret_files"],
                    format!("turn_urls names \"{url}\" and turn_secret_files is empty; {together}"),
                );
            }
            ([], [file, ..]) => {
                add(
                    &["ice.turn_secret_files", "ice.turn_urls"],
                    format!("turn_secret_files names {file:?} and turn_urls is empty; {together}"),
                );
            }
            _ => {}
        }

        let Timeouts { heartbeat_ms, silence_ms, .. } = self.timeouts;
        if silence_ms <= heartbeat_ms {
            add(
                &["timeouts.silence_ms", "timeouts.heartbeat_ms"],
                format!("is {silence_ms}, but must be greater than heartbeat_ms, which is {heartbeat_ms}"),
            );
        }

        let Limits { outbox_bytes_max: outbox, message_bytes_max: message, .. } = self.limits;
        if outbox < message.saturating_mul(2) {
            add(
                &["limits.outbox_bytes_max", "limits.message_bytes_max"],
                format!("is {outbox}, but must be at least twice message_bytes_max, which is {message}"),
            );
        }

        let Limits { room_metadata_bytes_max: metadata, peers_per_room_max: peers, .. } = self.limits;
        let list = peers.saturating_mul(PEER_ENTRY_BYTES).saturating_add(metadata);
        if outbox < list {
            add(
                &["limits.outbox_bytes_max", "limits.room_metadata_bytes_max", "limits.peers_per_room_max"],
                format!(
                    "is {outbox}, but must be at least {list}, the list of a full room: room_metadata_bytes_max, \
                     which is {metadata}, and {PEER_ENTRY_BYTES} for each of peers_per_room_max, which is {peers}"
                ),
            );
        }

        let Limits { bytes_per_second, .. } = self.limits;
        if self.rates == Rates::On && (message as u64) > 2 * u64::from(bytes_per_second) {
            add(
                &["limits.bytes_per_second", "limits.message_bytes_max"],
                format!("is {bytes_per_second}, but must be at least half of message_bytes_max, which is {message}"),
            );
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn a_certificate_needs_its_key_and_a_key_its_certificate() {
        assert_eq!(
            conflict(|config| config.tls_cert = Some("chain.pem".into())).unwrap(),
            "tls_cert: is \"chain.pem\", and tls_key is not set; the two go together"
        );
        assert_eq!(
            conflict(|config| config.tls_key = Some("key.pem".into())).unwrap(),
            "tls_key: is \"key.pem\", and tls_cert is not set; the two go together"
        );
        let both = |config: &mut Config| (config.tls_cert, config.tls_key) = (Some("chain.pem".into()), Some("key.pem".into()));
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn the_administration_never_has_the_port_of_clients() {
        let listens = |listen: &str, admin: &str| {
            conflict(|config| {
                config.listen = listen.parse().unwrap();
                config.admin_listen = Some(admin.parse().unwrap());
            })
        };
        assert_eq!(
            listens("localhost:8080", ":8080").unwrap(),
            "admin_listen: is :8080, and listen is localhost:8080: clients are taken there already; give it another port"
        );
        for (listen, admin) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:1", "[::1]:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::1]:1", "[::]:1"),
            (":1", "192.0.2.1:1"),
        ] {
            assert!(listens(listen, admin).is_some() && listens(admin, listen).is_some(), "{listen} {admin}");
        }
        for (listen, admin) in [
            ("localhost:1", "localhost:2"),
            (":0", ":0"),
            ("192.0.2.1:1", "localhost:1"),
            ("0.0.0.0:1", "[::]:1"),
            ("[::1]:1", "127.0.0.1:1"),
        ] {
            assert_eq!(listens(listen, admin), None, "{listen} {admin}");
        }
    }

    #[test]
    fn who_has_a_secret_for_the_application_says_where_that_is() {
        let secret = |config: &mut Config| config.auth.callback_secret_file = Some("secret".into());
        assert_eq!(conflict(secret).unwrap(), "auth.callback_secret_file: is \"secret\", but nobody is asked without callback_url");
        let both = |config: &mut Config| {
            secret(config);
            config.auth.callback_url = Some("https://app.example/may".parse().unwrap());
        };
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn settings_of_a_turn_server_that_does_not_run_do_not_go_unnoticed() {
        let listen = |config: &mut Config| config.turn.listen = Some("127.0.0.1:3478".parse().unwrap());
        assert_eq!(conflict(listen).unwrap(), "turn.listen: listen is 127.0.0.1:3478, but no TURN server runs without enabled");
        let tls_listen = |config: &mut Config| {
            config.turn.tls_listen = Some("127.0.0.1:443".parse().unwrap());
            (config.tls_cert, config.tls_key) = (Some("chain.pem".into()), Some("key.pem".into()));
        };
        assert_eq!(conflict(tls_listen).unwrap(), "turn.tls_listen: tls_listen is 127.0.0.1:443, but no TURN server runs without enabled");
        let external_ip = |config: &mut Config| config.turn.external_ip = vec!["203.0.113.9".parse().unwrap()];
        assert_eq!(
            conflict(external_ip).unwrap(),
            "turn.external_ip: external_ip names 203.0.113.9, but no TURN server runs without enabled"
        );
        let all = |config: &mut Config| {
            listen(config);
            tls_listen(config);
            external_ip(config);
            config.turn.enabled = true;
        };
        assert_eq!(conflict(all), None);
    }

    #[test]
    fn there_are_as_many_ports_as_allocations() {
        let few = |config: &mut Config| (config.turn.enabled, config.turn.ports) = (true, "50000-50099".parse().unwrap());
        assert_eq!(
            conflict(few).unwrap(),
            "turn.ports: ports is 50000-50099, which are 100, but allocations_max is 4000: each allocation has a port of its own"
        );
        let as_many = |config: &mut Config| {
            few(config);
            config.turn.allocations_max = 100;
        };
        assert_eq!(conflict(as_many), None);
    }

    #[test]
    fn turn_servers_need_their_secret_and_a_secret_its_servers() {
        let urls = |config: &mut Config| config.ice.turn_urls = vec!["turn:turn.example".parse().unwrap()];
        let secret = |config: &mut Config| config.ice.turn_secret_files = vec!["secret".into()];
        assert_eq!(
            conflict(urls).unwrap(),
            "ice.turn_urls: turn_urls names \"turn:turn.example\" and turn_secret_files is empty; turn_urls and turn_secret_files go together"
        );
        assert_eq!(
            conflict(secret).unwrap(),
            "ice.turn_secret_files: turn_secret_files names \"secret\" and turn_urls is empty; turn_urls and turn_secret_files go together"
        );
        let both = |config: &mut Config| {
            urls(config);
            secret(config);
        };
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn who_expects_tokens_to_be_asked_for_names_a_key() {
        let issuer = |config: &mut Config| config.auth.issuer = Some("https://id.example".into());
        assert_eq!(
            conflict(issuer).unwrap(),
            "auth.issuer: is \"https://id.example\", but no token is asked for without auth.keys or auth.jwks_url"
        );
        let audience = |config: &mut Config| config.auth.audience = Some("switchboard".into());
        assert_eq!(
            conflict(audience).unwrap(),
            "auth.audience: is \"switchboard\", but no token is asked for without auth.keys or auth.jwks_url"
        );
        for keys in [
            |config: &mut Config| config.auth.keys = vec!["a.pem".into()],
            |config: &mut Config| {
                config.auth.jwks_url = Some("https://id.example/keys".parse().unwrap());
            },
        ] {
            let all = |config: &mut Config| {
                issuer(config);
                audience(config);
                keys(config);
            };
            assert_eq!(conflict(all), None);
        }
    }

    #[test]
    fn a_client_is_probed_before_it_is_given_up() {
        assert_eq!(conflict(|config| config.timeouts.silence_ms = 10_001), None);
        assert_eq!(
            conflict(|config| config.timeouts.silence_ms = 10_000).unwrap(),
            "timeouts.silence_ms: is 10000, but must be greater than heartbeat_ms, which is 10000"
        );
    }

    #[test]
    fn the_outbox_takes_two_of_the_longest_messages() {
        assert_eq!(conflict(|config| config.limits.message_bytes_max = 524_288), None);
        assert_eq!(
            conflict(|config| config.limits.message_bytes_max = 524_289).unwrap(),
            "limits.outbox_bytes_max: is 1048576, but must be at least twice message_bytes_max, which is 524289"
        );
        assert!(conflict(|config| config.limits.message_bytes_max = usize::MAX).is_some());
    }

    #[test]
    fn the_outbox_takes_the_list_of_a_full_room() {
        assert_eq!(conflict(|config| config.limits.outbox_bytes_max = 524_288 + 96_000), None);
        assert_eq!(
            conflict(|config| config.limits.outbox_bytes_max = 524_288 + 95_999).unwrap(),
            "limits.outbox_bytes_max: is 620287, but must be at least 620288, the list of a full room: \
             room_metadata_bytes_max, which is 524288, and 96 for each of peers_per_room_max, which is 1000"
        );
        assert!(conflict(|config| config.limits.peers_per_room_max = usize::MAX).is_some());
    }

    #[test]
    fn the_longest_message_passes_at_once() {
        assert_eq!(conflict(|config| config.limits.bytes_per_second = 32_768), None);
        let too_slow = |config: &mut Config| config.limits.bytes_per_second = 32_767;
        assert_eq!(
            conflict(too_slow).unwrap(),
            "limits.bytes_per_second: is 32767, but must be at least half of message_bytes_max, which is 65536"
        );
        let no_rates = |config: &mut Config| {
            too_slow(config);
            config.rates = Rates::Off;
        };
        assert_eq!(conflict(no_rates), None);
    }

    #[test]
    fn every_conflict_is_told() {
        let change = |config: &mut Config| {
            config.tls_key = Some("key.pem".into());
            config.timeouts.heartbeat_ms = 60_000;
            config.limits.outbox_bytes_max = 2048;
        };
        assert_eq!(conflict(change).unwrap().lines().count(), 4);
    }
}
