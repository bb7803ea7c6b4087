//! The settings in force, for whoever runs the server: each with its value, where that came from, and nothing secret.

use serde_json::Value;

use super::{
    Config, Origin, SettingOrigins,
    sources::{Setting, settings},
};

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// As `section.key`.
    pub name: String,
    /// As JSON; null if it is not set, or secret. Of a URL, without what may be secret in it.
    pub value: Value,
    /// Is it, or a part of it, left out here?
    pub is_hidden: bool,
    /// Where it was written; none if it stands at its default, or a program has set it.
    pub origin: Option<Origin>,
}

/// Whatever is called so is not shown.
const SECRETS: [&str; 5] = ["secret", "password", "token", "key", "credential"];
/// What is called so all the same is the name of a file.
const NO_SECRETS: [&str; 1] = ["tls_key"];

impl Config {
    /// All settings, in the order of the manual.
    pub fn in_force(&self, origins: &SettingOrigins) -> Vec<InForce> {
        let values = serde_json::to_value(self).expect("settings can be spelled");
        let in_force = |name: String| {
            let value = values.pointer(&format!("/{}", name.replace('.', "/"))).cloned().unwrap_or_default();
            let (value, is_hidden) = if is_secret(&name) { (Value::Null, !value.is_null()) } else { shown(value) };
            InForce { origin: origins.get(&name).cloned(), name, value, is_hidden }
        };
        settings().iter().map(Setting::name).map(in_force).collect()
    }
}

fn is_secret(name: &str) -> bool {
    let key = name.rsplit('.').next().unwrap_or_default();
    !NO_SECRETS.contains(&name)
        && SECRETS.iter().any(|secret| key.strip_suffix(secret).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

/// A value as it may be shown, and whether something is left out.
fn shown(value: Value) -> (Value, bool) {
    match value {
        Value::String(text) => {
            let shown = without_secrets(&text);
            let is_hidden = shown != text;
            (shown.into(), is_hidden)
        }
        Value::Array(items) => {
            let (items, hidden): (Vec<_>, Vec<_>) = items.into_iter().map(shown).unzip();
            (items.into(), hidden.contains(&true))
        }
        Value::Object(fields) => {
            let mut is_hidden = false;
            let shown = fields.into_iter().map(|(key, value)| {
                let (value, hides) = if is_secret(&key) { (Value::Null, !value.is_null()) } else { shown(value) };
                is_hidden |= hides;
                (key, value)
            });
            (shown.collect::<serde_json::Map<_, _>>().into(), is_hidden)
        }
        other => (other, false),
    }
}

/// A URL without who asks and without its query, where applications put passwords and keys. Any other text as it is.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("…@{host}"));
    format!("{scheme}://{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn every_setting_is_there_with_its_value_and_where_it_was_written() {
        let sources =
            Sources::new().flag("listen", Some(":80")).environment(|name| (name == "SWITCHBOARD_LIMITS_ROOMS_MAX").then(|| "7".into()));
        let (config, origins) = sources.finish_with_origins().unwrap();
        let settings = config.in_force(&origins);
        assert_eq!(settings.len(), super::settings().len());
        let find = |name| settings.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!((&find("listen").value, &find("listen").origin), (&":80".into(), &Some(Origin::Flag("--listen".into()))));
        assert_eq!(find("limits.rooms_max").value, 7);
        assert!(matches!(&find("limits.rooms_max").origin, Some(Origin::Environment(name)) if name.ends_with("ROOMS_MAX")));
        assert_eq!((&find("timeouts.close_ms").value, &find("timeouts.close_ms").origin), (&2000.into(), &None));
        assert_eq!(find("dialects").value[3], "socket.io");
        assert!(find("workers").value.is_null() && !find("workers").is_hidden);
        assert!(find("peerjs.key").value.is_null() && find("peerjs.key").is_hidden);
        assert_eq!(find("admin.token_file").value, "certs/admin-token");
    }

    #[test]
    fn secrets_are_known_by_their_names_and_in_urls() {
        for name in ["a.secret", "a.callback_secret", "password", "a.b_token", "peerjs.key"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["tls_key", "admin.token_file", "auth.keys", "monkey", "listen"] {
            assert!(!is_secret(name), "{name}");
        }
        for (text, shown) in [
            ("https://a.example/b", "https://a.example/b"),
            ("https://u:p@a.example/b?key=1", "https://…@a.example/b?…"),
            ("nats://u:p@a.example", "nats://…@a.example"),
            ("https://a.example?token=x@y", "https://a.example?…"),
            ("no URL?", "no URL?"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
