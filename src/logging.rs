//! Logging to stderr, as the settings `log` and `log_format` want it.
//!
//! Clients choose some of what is logged, and somebody reads it in a terminal. So a control character is written as its escape:
//! it can neither move the cursor nor pretend to be another line. tracing-subscriber alone does so for some of them, in messages.
//!
//! What is logged can be changed while the program runs. What nobody is to read in a log is not logged whatever is asked for: of dependencies
//! that tell what they send and receive, nothing below a level at which they do not.

use std::{
    env, fmt,
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Mutex, PoisonError},
};

use switchboard::{
    admin::LogLevel,
    config::{Config, LogFormat},
};
use tracing::{
    Metadata,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt as _, filter_fn},
    fmt::{FormatFields, MakeWriter, format::Writer},
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

#[cfg(feature = "opentelemetry")]
use crate::spans;

/// Something that is told all that is to be logged.
pub type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What is logged, for as long as this is kept.
pub struct Logging {
    /// How to change it.
    pub level: Arc<dyn LogLevel>,
    #[cfg(feature = "opentelemetry")]
    _spans: Option<spans::Spans>,
}

/// Starts logging for the whole process; called once.
pub fn start(config: &Config) -> anyhow::Result<Logging> {
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (lines, level) = lines(&config.log, config.log_format, colours, io::stderr);
    let layers = vec![lines];
    #[cfg(feature = "opentelemetry")]
    let (layers, _spans) = match spans::layer()? {
        Some((layer, spans)) => (layers.into_iter().chain([layer]).collect(), Some(spans)),
        None => (layers, None),
    };
    Registry::default().with(layers).init();
    Ok(Logging {
        level: Arc::new(level),
        #[cfg(feature = "opentelemetry")]
        _spans,
    })
}

/// How to change what is logged.
struct Level {
    filter: Mutex<String>,
    reload: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel for Level {
    fn filter(&self) -> String {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = parse(filter).map_err(|error| error.to_string())?;
        let mut in_force = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload.reload(parsed).map_err(|error| error.to_string())?;
        *in_force = filter.to_owned();
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    // What a stranger sends must not be an alarm, and how many threads there are is no news.
    EnvFilter::try_new(format!("actix_http=off,actix_server=warn,stun_types=off,{filter}"))
}

/// Dependencies, and the level below which they tell what only the two ends of a connection are to know.
const DISCREET: [(&str, LevelFilter); 3] = [
    // At `debug` the frames of a request as numbers, in which is the path with its query: a token, perhaps.
    ("wtransport", LevelFilter::INFO),
    // At `trace` the tokens that reset a connection, by which anybody could end it.
    ("quinn_proto", LevelFilter::DEBUG),
    // At `trace` whole handshakes, with the tickets by which a client takes up a session of TLS again.
    ("rustls", LevelFilter::DEBUG),
];

/// May this be read by whoever reads the log?
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let is_of = |part: &str| metadata.target().strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    DISCREET.iter().all(|(part, most)| !is_of(part) || metadata.level() <= most)
}

fn lines<M, W>(filter: &str, log_format: LogFormat, colours: bool, writer: M) -> (AnyLayer, Level)
where
    M: Fn() -> W + Send + Sync + 'static,
    W: Write + 'static,
{
    let parsed = parse(filter).expect("the filter parsed when the settings were read");
    let (parsed, reload) = reload::Layer::new(parsed);
    // Internal errors go to stderr. When that is what is broken, writing them there panics.
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let lines = match log_format {
        LogFormat::Text => lines.with_ansi(colours).fmt_fields(EscapedFields).with_writer(writer).boxed(),
        LogFormat::Json => lines.json().with_writer(move || EscapedLine(writer.make_writer())).boxed(),
    };
    let lines = lines.with_filter(parsed.and(filter_fn(is_discreet))).boxed();
    (lines, Level { filter: filter.to_owned().into(), reload })
}

/// Writes control characters as escapes that JSON knows too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            char if char.is_control() => escaped.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => escaped.push(char),
        }
    }
    escaped
}

/// The message and the fields of a line of text. The colours of what stands before them are not theirs, and stay.
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = FieldsText(String::new());
        fields.record(&mut text);
        out.write_str(&text.0)
    }
}

struct FieldsText(String);

impl Visit for FieldsText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => format!("{value:?}"),
            // Records of the `log` crate carry their target and place so; the line has them already.
            name if name.starts_with("log.") => return,
            name => format!("{}={value:?}", name.trim_start_matches("r#")),
        };
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(&escape(&text));
    }
}

/// A line of JSON. JSON itself leaves DEL and U+0080 to U+009F as they are, and terminals obey some of those.
struct EscapedLine<W>(W);

impl<W: Write> Write for EscapedLine<W> {
    /// Takes a whole line, which is how they come.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        self.0.write_all((escape(text) + end).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, log_format: LogFormat, colours: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (lines, _) = lines(filter, log_format, colours, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(lines), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Says it in every place where a line has room for what a client chose.
    fn say(text: &str) {
        let _span = tracing::info_span!("client", room = %text).entered();
        tracing::info!(text, display = %text, debug = ?text, error = &io::Error::other(text) as &dyn std::error::Error, "told {text}");
    }

    #[test]
    fn control_characters_are_logged_as_escapes() {
        let hostile: String = ('\0'..='\u{9f}').filter(|char| char.is_control()).collect();
        for log_format in [LogFormat::Text, LogFormat::Json] {
            let line = logged("info", log_format, false, || say(&hostile));
            let line = line.strip_suffix('\n').unwrap();
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn json_lines_say_what_was_logged() {
        let line = logged("info", LogFormat::Json, false, || say("a\u{7f}\u{9b}\n\"ü"));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["fields"]["message"], "told a\u{7f}\u{9b}\n\"ü");
        assert_eq!(json["fields"]["text"], "a\u{7f}\u{9b}\n\"ü");
        assert_eq!(json["level"], "INFO");
    }

    #[test]
    fn text_lines_carry_message_and_fields() {
        let line = logged("info", LogFormat::Text, false, || say("a b"));
        assert!(line.contains("client{room=a b}"), "{line:?}");
        assert!(line.ends_with("told a b text=\"a b\" display=a b debug=\"a b\" error=a b\n"), "{line:?}");
    }

    #[test]
    fn only_colours_write_escape_sequences() {
        assert!(logged("info", LogFormat::Text, true, || say("a")).contains('\u{1b}'));
        assert!(!logged("info", LogFormat::Text, false, || say("a")).contains('\u{1b}'));
        let line = logged("info", LogFormat::Text, true, || say("\u{1b}[8mhidden"));
        assert!(!line.contains("\u{1b}[8m"), "{line:?}");
    }

    #[test]
    fn what_is_logged_can_be_changed() {
        let written = Written::default();
        let writer = written.clone();
        let (lines, level) = lines("warn", LogFormat::Text, false, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            tracing::info!("before");
            level.set("info").unwrap();
            tracing::info!("meanwhile");
            assert!(level.set("nonsense=loud").is_err());
            assert_eq!(level.filter(), "info");
            tracing::info!("still");
            level.set("error").unwrap();
            tracing::info!("after");
        });
        let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let said: Vec<&str> = lines.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(said, ["meanwhile", "still"]);
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        assert_eq!(logged("warn", LogFormat::Text, false, || say("a")), "");
        assert_ne!(logged("warn,switchboard=info", LogFormat::Text, false, || say("a")), "");
    }
}
