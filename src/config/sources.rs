//! How the settings come together: flags over environment over file over defaults.
//!
//! Every value that a source holds is read on its own, so that one that is wrong does not hide the next, and its origin is
//! remembered. Names, defaults and environment variables are those beside the fields of [`Config`]: nothing here knows a setting.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::OsString,
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
};

use confique::{
    Config as _, Layer as _,
    meta::{Expr, Field, FieldKind, LeafKind},
};
use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, Deserializer},
};

use super::Config;
use crate::slips::{BYTES_MAX, distance, is_slip};

type Layer = <Config as confique::Config>::Layer;

/// The sources of the settings, read in the order of their strength: first [`flag`](Self::flag), then
/// [`environment`](Self::environment), then [`file`](Self::file). What an earlier one sets, a later one does not change.
pub struct Sources {
    layer: Layer,
    origins: SettingOrigins,
    faults: Vec<Fault>,
}

/// Everything that is wrong with the settings, one line for each fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    /// Never empty. Those in a file stand in the order of its lines.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong with the settings. Written as `ORIGIN: SETTING: PROBLEM`, or `FLAG: PROBLEM`, in one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands; none when a program filled the settings.
    pub origin: Option<Origin>,
    /// The setting as `section.key`; none where a whole file is at fault.
    pub setting: Option<String>,
    /// What is wrong, with the value in it.
    pub problem: String,
}

/// Where values were written, by the names of their settings.
pub type SettingOrigins = BTreeMap<String, Origin>;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, in the flag of this name (with its dashes).
    Flag(String),
    /// In the environment variable of this name.
    Environment(String),
    /// In a file.
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The line, counted from 1; none when the file could not be read at all.
        line: Option<usize>,
    },
}

/// Settings that contradict each other, each of them fine by itself.
pub(super) struct Conflict {
    /// Their names, the one to blame first.
    pub settings: &'static [&'static str],
    pub problem: String,
}

/// What the fields of [`Config`] declare about one setting.
pub(super) struct Setting {
    section: Option<&'static str>,
    key: &'static str,
    variable: Option<&'static str>,
    is_list: bool,
}

/// How the environment variables of all settings begin.
const PREFIX: &str = "SWITCHBOARD_";
/// The section whose environment variables are not to be empty.
const NEVER_EMPTY: &str = "auth";
const EMPTY: &str =
    "is empty, which does not count as not set, lest a server is open that was to be closed: give it a value, or take the variable away";

impl Sources {
    /// No source read yet: every setting stands at its default.
    pub fn new() -> Self {
        Self { layer: Layer::empty(), origins: BTreeMap::new(), faults: Vec::new() }
    }

    /// Takes one setting from the command line, if it was given there. The flag is called like the setting, with dashes.
    pub fn flag(mut self, setting: &str, text: Option<&str>) -> Self {
        if let Some(text) = text {
            let known = settings().into_iter().find(|known| known.name() == setting);
            // What switches a section on is called like the section.
            let origin = Origin::Flag(format!("--{}", setting.trim_end_matches(".enabled").replace(['_', '.'], "-")));
            self.text(&known.expect("a flag is called like a setting"), text, origin);
        }
        self
    }

    /// Takes every setting that `lookup` finds under the name of its environment variable. An empty one counts as not set, but for those of the section
    /// `auth`: whoever passes on a variable that nobody has set must not open a server that was to be closed.
    pub fn environment(mut self, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        for setting in settings() {
            let Some(variable) = setting.variable else { continue };
            let Some(text) = lookup(variable) else { continue };
            if text.is_empty() {
                if setting.section == Some(NEVER_EMPTY) {
                    self.fault(Origin::Environment(variable.to_owned()), setting.name(), EMPTY.to_owned());
                }
                continue;
            }
            match text.to_str() {
                Some(text) => self.text(&setting, text, Origin::Environment(variable.to_owned())),
                None => self.fault(Origin::Environment(variable.to_owned()), setting.name(), format!("{text:?} is not UTF-8")),
            }
        }
        self
    }

    /// Refuses environment variables that begin like ours and are none. `others` are ours and name no setting. What Kubernetes sets for a service that is
    /// called like the program is let be.
    pub fn known_variables(mut self, variables: impl Iterator<Item = (String, String)>, others: &[&'static str]) -> Self {
        let known: Vec<_> = settings().into_iter().filter_map(|setting| setting.variable).chain(others.iter().copied()).collect();
        for (name, value) in variables {
            if !name.starts_with(PREFIX) || known.contains(&name.as_str()) || is_of_kubernetes(&name, &value) {
                continue;
            }
            let problem = match nearest_variable(&name, &known) {
                Some(nearest) => format!("unknown setting, did you mean {nearest}?"),
                None => "unknown setting, `switchboard config` names all".to_owned(),
            };
            self.faults.push(Fault { origin: Some(Origin::Environment(name)), setting: None, problem });
        }
        self
    }

    /// Takes the settings of a TOML file.
    pub fn file(mut self, path: &Path) -> Self {
        match fs::read_to_string(path) {
            Ok(text) => self.toml(path, &text),
            Err(error) => {
                let origin = Origin::File { path: path.to_owned(), line: None };
                self.faults.push(Fault { origin: Some(origin), setting: None, problem: format!("cannot be read: {error}") });
            }
        }
        self
    }

    /// The settings, or all that is wrong with them.
    pub fn finish(self) -> Result<Config, InvalidConfig> {
        self.finish_with_origins().map(|(config, _)| config)
    }

    /// The same, and where those that do not stand at their default were written.
    pub fn finish_with_origins(mut self) -> Result<(Config, SettingOrigins), InvalidConfig> {
        let config = Config::from_layer(self.layer.with_fallback(Layer::default_values()));
        let config = config.expect("every setting has a default or is optional");
        for Conflict { settings, problem } in config.conflicts() {
            // A setting whose value was refused stands at its default here; what contradicts that says nothing.
            if settings.iter().any(|name| self.faults.iter().any(|fault| fault.setting.as_deref() == Some(name))) {
                continue;
            }
            let written = settings.iter().find_map(|name| Some((name, self.origins.get(*name)?)));
            let (name, origin) = written.expect("defaults do not contradict each other");
            self.faults.push(Fault { origin: Some(origin.clone()), setting: Some((*name).to_owned()), problem });
        }
        if self.faults.is_empty() {
            return Ok((config, self.origins));
        }
        self.faults.sort_by_key(|fault| match fault.origin {
            Some(Origin::File { line, .. }) => line,
            _ => None,
        });
        Err(InvalidConfig { faults: self.faults })
    }

    /// Reads a flag or an environment variable, where a value has no type of its own: it is a string unless the setting wants a
    /// number or a yes or no, and a list is separated by commas.
    fn text(&mut self, setting: &Setting, text: &str, origin: Origin) {
        let string = |text: &str| Spanned::new(0..0, DeValue::String(text.to_owned().into()));
        let read = if setting.is_list {
            setting.read(Spanned::new(0..0, DeValue::Array(text.split(',').map(|item| string(item.trim())).collect())))
        } else {
            setting.read(string(text)).or_else(|refused| match DeValue::parse(text) {
                Ok(value) if value.get_ref().is_integer() || value.get_ref().is_bool() => setting.read(value),
                _ => Err(refused),
            })
        };
        match read {
            Ok(layer) => self.set(setting, layer, origin),
            Err(error) => self.fault(origin, setting.name(), error.message().to_owned()),
        }
    }

    fn toml(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: Some(1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()),
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let problem = match (error.message(), text.get(span.clone())) {
                    ("duplicate key", Some(key)) if !key.is_empty() => format!("{key} is there twice"),
                    (message, _) => message.to_owned(),
                };
                return self.faults.push(Fault { origin: Some(at(span.start)), setting: None, problem });
            }
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if !sections().any(|section| section == name) {
                self.entry(None, &key, value, &at);
                continue;
            }
            match value.into_inner() {
                DeValue::Table(section) => section.into_iter().for_each(|(key, value)| self.entry(Some(name), &key, value, &at)),
                _ => self.fault(at(key.span().start), name.to_owned(), format!("is a section, which begins with a line [{name}]")),
            }
        }
    }

    fn entry(&mut self, section: Option<&str>, key: &Spanned<DeString>, value: Spanned<DeValue>, at: &impl Fn(usize) -> Origin) {
        let name = dotted(section, key.get_ref());
        let Some(setting) = settings().into_iter().find(|setting| setting.name() == name) else {
            let problem = unknown(&name, value.get_ref().is_table());
            return self.fault(at(key.span().start), name, problem);
        };
        if let (true, DeValue::String(item)) = (setting.is_list, value.get_ref()) {
            let problem = format!("{item:?} is no list, which is wanted, as {} = [{item:?}]", setting.key);
            return self.fault(at(key.span().start), name, problem);
        }
        match setting.read(value) {
            Ok(layer) => self.set(&setting, layer, at(key.span().start)),
            Err(error) => {
                // In a list of several lines, that of the wrong item.
                let offset = error.span().unwrap_or(key.span()).start;
                self.fault(at(offset), name, error.message().to_owned());
            }
        }
    }

    fn set(&mut self, setting: &Setting, layer: Layer, origin: Origin) {
        let stronger = std::mem::replace(&mut self.layer, Layer::empty());
        self.layer = stronger.with_fallback(layer);
        self.origins.entry(setting.name()).or_insert(origin);
    }

    fn fault(&mut self, origin: Origin, setting: String, problem: String) {
        self.faults.push(Fault { origin: Some(origin), setting: Some(setting), problem });
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl Setting {
    pub(super) fn name(&self) -> String {
        dotted(self.section, self.key)
    }

    /// A layer that holds this setting alone. An error carries the span that the value has.
    fn read(&self, value: Spanned<DeValue>) -> Result<Layer, toml::de::Error> {
        let one = |key: &'static str, value| DeTable::from_iter([(Spanned::new(0..0, DeString::from(key)), value)]);
        let mut table = one(self.key, value);
        if let Some(section) = self.section {
            table = one(section, Spanned::new(0..0, DeValue::Table(table)));
        }
        Layer::deserialize(Deserializer::from(Spanned::new(0..0, table)))
    }
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Self { origin: None, setting: Some(conflict.settings[0].to_owned()), problem: conflict.problem }
    }
}

impl Error for InvalidConfig {}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        if let Some(origin) = &self.origin {
            write!(line, "{origin}: ")?;
        }
        // A flag is called like its setting.
        if let (Some(setting), false) = (&self.setting, matches!(self.origin, Some(Origin::Flag(_)))) {
            write!(line, "{setting}: ")?;
        }
        line.push_str(&self.problem);
        // Keys and values are quoted from a file that may hold anything, and end on a terminal.
        line.chars().try_for_each(|char| if char.is_control() { write!(f, "{}", char.escape_default()) } else { f.write_char(char) })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
        }
    }
}

pub(super) fn settings() -> Vec<Setting> {
    let in_section = |section: Option<&'static str>, fields: &'static [Field]| {
        fields.iter().filter_map(move |field| match field.kind {
            FieldKind::Leaf { env, kind } => Some(Setting {
                section,
                key: field.name,
                variable: env,
                is_list: matches!(kind, LeafKind::Required { default: Some(Expr::Array(_)) }),
            }),
            FieldKind::Nested { .. } => None,
        })
    };
    let nested = Config::META.fields.iter().filter_map(|field| match field.kind {
        FieldKind::Nested { meta } => Some(in_section(Some(field.name), meta.fields)),
        FieldKind::Leaf { .. } => None,
    });
    in_section(None, Config::META.fields).chain(nested.flatten()).collect()
}

fn sections() -> impl Iterator<Item = &'static str> {
    Config::META.fields.iter().filter(|field| matches!(field.kind, FieldKind::Nested { .. })).map(|field| field.name)
}

fn dotted(section: Option<&str>, key: &str) -> String {
    section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"))
}

fn unknown(name: &str, is_table: bool) -> String {
    let (kind, known): (_, Vec<String>) = if is_table {
        ("section", sections().map(str::to_owned).collect())
    } else {
        ("setting", settings().iter().map(Setting::name).collect())
    };
    match nearest(name, known) {
        Some(nearest) => format!("unknown {kind}, did you mean {nearest}?"),
        None => format!("unknown {kind}"),
    }
}

/// The known name that `name` may be a slip for: one of the same section, the same key in another, or one that differs in a third of its letters at most.
fn nearest(name: &str, known: Vec<String>) -> Option<String> {
    let parts =
        |name: &str| name.rsplit_once('.').map_or((String::new(), name.to_owned()), |(section, key)| (section.to_owned(), key.to_owned()));
    let name = name.to_lowercase().replace('-', "_");
    if name.len() > BYTES_MAX {
        return None;
    }
    let (section, key) = parts(&name);
    let weighed = known.into_iter().filter_map(|known| {
        let (its_section, its_key) = parts(&known);
        let (in_section, in_all) = (distance(&key, &its_key), distance(&name, &known));
        let weight = if its_section == section && is_slip(in_section, &its_key) {
            (0, in_section)
        } else if its_key == key {
            (1, 0)
        } else {
            is_slip(in_all, &known).then_some((2, in_all))?
        };
        Some((weight, known))
    });
    weighed.min().map(|(_, known)| known)
}

/// The same for the name of an environment variable, where a section that is left out counts for nothing.
fn nearest_variable<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_uppercase();
    if name.len() > BYTES_MAX {
        return None;
    }
    let rest = |name: &'a str| name.strip_prefix(PREFIX).unwrap_or(name);
    let said = name.strip_prefix(PREFIX).unwrap_or(&name);
    let weighed = known.iter().filter_map(|known| {
        let without_section = sections().find_map(|section| rest(known).strip_prefix(&format!("{}_", section.to_uppercase())));
        let distance = if without_section == Some(said) { 0 } else { distance(said, rest(known)) };
        // Of two that are as near, the one without a section is meant: `listen`, and not that of `admin`.
        is_slip(distance, rest(known)).then_some((distance, rest(known).len().abs_diff(said.len()), *known))
    });
    weighed.min().map(|(_, _, known)| known)
}

/// Does Kubernetes set this variable in every container beside a service whose name begins like the program's? It does so for `switchboard`, and for
/// `switchboard-admin` too: the service's address, those of its ports that have a name, and the same once more as Docker's links have it.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_link = value.split_once("://").is_some_and(|(protocol, _)| PROTOCOLS.contains(&protocol.to_uppercase().as_str()));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // `…_PORT_8080_TCP`, and with `_ADDR`, `_PORT` or `_PROTO` behind it.
    let is_port_of_link = |rest: &str| {
        let rest = ["_ADDR", "_PORT", "_PROTO"].into_iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
        rest.split_once('_').is_some_and(|(port, protocol)| is_number(port) && PROTOCOLS.contains(&protocol))
    };
    let after = |mark: &str| name.match_indices(mark).map(|(at, _)| &name[at + mark.len()..]).collect::<Vec<_>>();
    name.ends_with("_SERVICE_HOST")
        || after("_SERVICE_PORT").into_iter().any(|rest| is_number(value) && (rest.is_empty() || rest.len() > 1 && rest.starts_with('_')))
        || after("_PORT_").into_iter().any(is_port_of_link)
        // Somebody's own SWITCHBOARD_PORT=8080 is none of these.
        || name.ends_with("_PORT") && is_link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_by_what_was_meant() {
        let known = || settings().iter().map(Setting::name).collect();
        for (slip, meant) in [
            ("limits.room_max", Some("limits.rooms_max")),
            ("limits.outbox-bytes-max", Some("limits.outbox_bytes_max")),
            ("LISTEN", Some("listen")),
            ("heartbeat_ms", Some("timeouts.heartbeat_ms")),
            ("limits.listen", Some("listen")),
            ("auth.key", Some("auth.keys")),
            ("peerjs.keys", Some("peerjs.key")),
            ("auth.path", Some("peerjs.path")),
            ("authh.keys", Some("auth.keys")),
            ("limits.colour", None),
            ("x", None),
            (&"x".repeat(1_000_000), None),
        ] {
            assert_eq!(nearest(slip, known()).as_deref(), meant, "{slip}");
        }
    }

    #[test]
    fn every_setting_has_the_environment_variable_of_its_name() {
        for setting in settings() {
            let name = format!("SWITCHBOARD_{}", setting.name().replace('.', "_").to_uppercase());
            assert_eq!(setting.variable, Some(name.as_str()));
        }
    }

    fn refused_variables(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sources = Sources::new().known_variables(variables, &["SWITCHBOARD_CONFIG"]);
        sources.finish().err().map_or_else(Vec::new, |error| error.faults.iter().map(Fault::to_string).collect())
    }

    #[test]
    fn a_misspelt_environment_variable_is_refused_and_tells_what_was_meant() {
        for (slip, meant) in [
            ("SWITCHBOARD_LIMITS_ROOM_MAX", "did you mean SWITCHBOARD_LIMITS_ROOMS_MAX?"),
            ("SWITCHBOARD_LIMIT_CLIENTS_MAX", "did you mean SWITCHBOARD_LIMITS_CLIENTS_MAX?"),
            ("SWITCHBOARD_CLIENTS_MAX", "did you mean SWITCHBOARD_LIMITS_CLIENTS_MAX?"),
            ("SWITCHBOARD_KEYS", "did you mean SWITCHBOARD_AUTH_KEYS?"),
            ("SWITCHBOARD_LISTN", "did you mean SWITCHBOARD_LISTEN?"),
            ("SWITCHBOARD_listen", "did you mean SWITCHBOARD_LISTEN?"),
            ("SWITCHBOARD_ORIGIN", "did you mean SWITCHBOARD_ORIGINS?"),
            ("SWITCHBOARD_CONFIGS", "did you mean SWITCHBOARD_CONFIG?"),
            ("SWITCHBOARD_COLOUR", "`switchboard config` names all"),
            ("SWITCHBOARD_", "`switchboard config` names all"),
        ] {
            assert_eq!(refused_variables(&[(slip, "x")]), [format!("{slip}: unknown setting, {meant}")]);
        }
        let known =
            ["SWITCHBOARD_LIMITS_ROOMS_MAX", "SWITCHBOARD_CONFIG", "HOME", "OTEL_SERVICE_NAME", "SWITCHBOARDS_X", "KUBERNETES_PORT"];
        assert_eq!(refused_variables(&known.map(|name| (name, "x"))), [""; 0]);
    }

    /// Made by the pattern in the documentation of Kubernetes (Service, environment variables), for `switchboard`, with two named ports, and `switchboard-admin`.
    #[test]
    fn what_kubernetes_sets_for_services_is_let_be_and_nothing_that_only_looks_like_it() {
        let set = [
            ("SWITCHBOARD_SERVICE_HOST", "10.96.3.4"),
            ("SWITCHBOARD_SERVICE_PORT", "8080"),
            ("SWITCHBOARD_SERVICE_PORT_HTTP", "8080"),
            ("SWITCHBOARD_SERVICE_PORT_WEB_TRANSPORT", "8080"),
            ("SWITCHBOARD_PORT", "tcp://10.96.3.4:8080"),
            ("SWITCHBOARD_PORT_8080_TCP", "tcp://10.96.3.4:8080"),
            ("SWITCHBOARD_PORT_8080_TCP_PROTO", "tcp"),
            ("SWITCHBOARD_PORT_8080_TCP_PORT", "8080"),
            ("SWITCHBOARD_PORT_8080_TCP_ADDR", "10.96.3.4"),
            ("SWITCHBOARD_PORT_8080_UDP", "udp://10.96.3.4:8080"),
            ("SWITCHBOARD_PORT_8080_UDP_PROTO", "udp"),
            ("SWITCHBOARD_ADMIN_SERVICE_HOST", "fd00::1"),
            ("SWITCHBOARD_ADMIN_SERVICE_PORT", "9090"),
            ("SWITCHBOARD_ADMIN_PORT", "tcp://[fd00::1]:9090"),
            ("SWITCHBOARD_ADMIN_PORT_9090_TCP_ADDR", "fd00::1"),
        ];
        assert_eq!(refused_variables(&set), [""; 0]);
        let not_set = [
            ("SWITCHBOARD_PORT", "8080"),
            ("SWITCHBOARD_PORT", "https://a.example"),
            ("SWITCHBOARD_ADMIN_PORT", "9090"),
            ("SWITCHBOARD_HOST", "10.96.3.4"),
            ("SWITCHBOARD_SERVICE_PORTS", "8080"),
            ("SWITCHBOARD_SERVICE_PORT_", "8080"),
            ("SWITCHBOARD_SERVICE_PORT_HTTP", "http"),
            ("SWITCHBOARD_PORT_TCP", "tcp://10.96.3.4:8080"),
            ("SWITCHBOARD_PORT_8080", "tcp"),
            ("SWITCHBOARD_PORT_8080_HTTP", "8080"),
            ("SWITCHBOARD_PORT_8080_TCP_HOST", "10.96.3.4"),
        ];
        for variable in not_set {
            assert_eq!(refused_variables(&[variable]).len(), 1, "{variable:?}");
        }
    }

    #[test]
    fn an_empty_environment_variable_is_not_set_and_never_opens_a_server() {
        let empty = |names: &[&str]| Sources::new().environment(|name| names.contains(&name).then(OsString::new)).finish();
        assert_eq!(empty(&["SWITCHBOARD_LISTEN", "SWITCHBOARD_CERT_NAMES", "SWITCHBOARD_LIMITS_ROOMS_MAX"]), Ok(Config::default()));
        let of_auth: Vec<_> = settings().into_iter().filter(|setting| setting.section == Some("auth")).collect();
        assert!(of_auth.len() > 5);
        for setting in of_auth {
            let variable = setting.variable.unwrap();
            let why = "is empty, which does not count as not set, lest a server is open that was to be closed: give it a value, or take the variable away";
            assert_eq!(empty(&[variable]).unwrap_err().to_string(), format!("{variable}: {}: {why}", setting.name()));
        }
    }

    #[test]
    fn an_environment_variable_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let lookup = |name: &str| (name == "SWITCHBOARD_CERT_DIR").then(|| OsString::from_vec(vec![b'a', 0xff]));
        let error = Sources::new().environment(lookup).finish().unwrap_err();
        assert_eq!(error.to_string(), r#"SWITCHBOARD_CERT_DIR: cert_dir: "a\xFF" is not UTF-8"#);
    }

    #[test]
    fn what_is_not_of_its_kind_is_told_in_our_words() {
        for (toml, said) in [
            ("rates = false", "a.toml:1: rates: false is none of: on, off"),
            ("rates = \"maybe\"", "a.toml:1: rates: \"maybe\" is none of: on, off"),
            ("log_format = 7", "a.toml:1: log_format: 7 is none of: text, json"),
            ("[auth]\nkeys = \"x\"", "a.toml:2: auth.keys: \"x\" is no list, which is wanted, as keys = [\"x\"]"),
            ("log = 7", "a.toml:1: log: 7 is not a log filter, which is a level or a list such as \"info,switchboard=debug\""),
            (
                "log = \"=loud=\"",
                "a.toml:1: log: \"=loud=\" is not a log filter, which is a level or a list such as \"info,switchboard=debug\"",
            ),
            ("log = \"info\"\nworkers = 1\nlog = \"off\"", "a.toml:3: log is there twice"),
            ("[auth]\n[limits]\n[auth]", "a.toml:3: auth is there twice"),
        ] {
            let mut sources = Sources::new();
            sources.toml(Path::new("a.toml"), toml);
            assert_eq!(sources.finish().unwrap_err().to_string(), said, "{toml}");
        }
        let flag = |setting, text| Sources::new().flag(setting, Some(text)).finish().unwrap_err().to_string();
        assert_eq!(flag("rates", "false"), "--rates: false is none of: on, off");
        assert_eq!(flag("tls_cert", "x"), "--tls-cert: is \"x\", and tls_key is not set; the two go together");
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let mut sources = Sources::new();
        sources.toml(Path::new("a\u{1b}b"), "\"k\\u001be\\ny\" = 1\nlog_format = \"\\u001b[31m\"\nlog = \"\\u009b=\\n=\"\n");
        let error = sources.finish().unwrap_err();
        assert_eq!(error.faults.len(), 3);
        let text = error.to_string();
        assert!(!text.contains(|char: char| char.is_control() && char != '\n'), "{text:?}");
        assert_eq!(text.lines().count(), 3, "{text:?}");
    }
}
