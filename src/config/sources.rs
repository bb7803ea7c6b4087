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

/// One thing that is wrong with the settings. Written as `ORIGIN: SETTING: PROBLEM` in one line without control characters.
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

    /// Takes every setting that `lookup` finds under the name of its environment variable. An empty one counts as not set.
    pub fn environment(mut self, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        for setting in settings() {
            let Some(variable) = setting.variable else { continue };
            let Some(text) = lookup(variable).filter(|text| !text.is_empty()) else { continue };
            match text.to_str() {
                Some(text) => self.text(&setting, text, Origin::Environment(variable.to_owned())),
                None => self.fault(Origin::Environment(variable.to_owned()), setting.name(), format!("{text:?} is not UTF-8")),
            }
        }
        self
    }

    /// Refuses environment variables that can only be meant for a setting in a section, and are not the name of one. Others that begin like ours are
    /// let be: Kubernetes sets some for every service.
    pub fn known_variables(mut self, names: impl Iterator<Item = String>) -> Self {
        let known: Vec<_> = settings().into_iter().filter_map(|setting| setting.variable).collect();
        for name in names.filter(|name| !known.contains(&name.as_str())) {
            let meant = sections().find_map(|section| {
                let key = name.strip_prefix(&format!("SWITCHBOARD_{}_", section.to_uppercase()))?.to_lowercase();
                Some(dotted(Some(section), &key))
            });
            if let Some(meant) = meant {
                let problem = unknown(&meant, false);
                self.fault(Origin::Environment(name), meant, problem);
            }
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
                let origin = at(error.span().map_or(0, |span| span.start));
                return self.faults.push(Fault { origin: Some(origin), setting: None, problem: error.message().to_owned() });
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
        if let Some(setting) = &self.setting {
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

/// The known name that `name` may be a slip for: the same key in another section, or one that differs in a third of its
/// letters at most.
fn nearest(name: &str, known: Vec<String>) -> Option<String> {
    let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let name = name.to_lowercase().replace('-', "_");
    // Names from a file may be of any length, and the distance takes the product of both.
    if name.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .map(|known| (if key(&known) == key(&name) { 0 } else { distance(&name, &known) }, known))
        .min()
        .filter(|(distance, known)| distance * 3 <= known.len())
        .map(|(_, known)| known)
}

/// How many letters have to be inserted, removed or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_letters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_answered_by_what_was_meant() {
        let known = || settings().iter().map(Setting::name).collect();
        for (slip, meant) in [
            ("limits.room_max", Some("limits.rooms_max")),
            ("limits.outbox-bytes-max", Some("limits.outbox_bytes_max")),
            ("LISTEN", Some("listen")),
            ("heartbeat_ms", Some("timeouts.heartbeat_ms")),
            ("limits.listen", Some("listen")),
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

    #[test]
    fn a_misspelt_environment_variable_is_refused_and_a_strangers_is_not() {
        let names = ["SWITCHBOARD_LIMITS_ROOM_MAX", "SWITCHBOARD_LIMITS_ROOMS_MAX", "SWITCHBOARD_PORT", "SWITCHBOARD_SERVICE_HOST", "HOME"];
        let error = Sources::new().known_variables(names.into_iter().map(str::to_owned)).finish().unwrap_err();
        let expected = "SWITCHBOARD_LIMITS_ROOM_MAX: limits.room_max: unknown setting, did you mean limits.rooms_max?";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_environment_variable_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let lookup = |name: &str| (name == "SWITCHBOARD_CERT_DIR").then(|| OsString::from_vec(vec![b'a', 0xff]));
        let error = Sources::new().environment(lookup).finish().unwrap_err();
        assert_eq!(error.to_string(), r#"SWITCHBOARD_CERT_DIR: cert_dir: "a\xFF" is not UTF-8"#);
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
