//! The commands that have to do with tokens: `token` makes one or explains one, `keys` makes a pair of keys. What they do is the library's.

mod explain;
mod making;
mod pair;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where RSA keys come from, which the library does not make.
const RSA: &str = "\
Keys for RS256 are made by OpenSSL; both files are called alike, because a token names its key by it:
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out certs/rsa.key
  openssl pkey -in certs/rsa.key -pubout -out certs/rsa.pem
";

const EXAMPLES: &str = "\
Examples:
  switchboard keys                                                    make a pair, and say how to go on
  switchboard token --key certs/eddsa-….key --sub alice --room lobby --room 'team-*'
  switchboard token --key certs/eddsa-….key --sub wall --room lobby --no-publish --no-broadcast --ttl 12h
  switchboard token --check - --key certs/eddsa-….pem < token         explain one
";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Token {
    /// Explain this token instead, or the one on stdin for `-`: whether it is good, who it is for and what it allows. Without --key it is checked
    /// as a server would that is started here with --config and this environment. Exit status 0 if it is good, 1 if not
    #[arg(long, value_name = "TOKEN|-", allow_hyphen_values = true)]
    check: Option<String>,

    /// Private key to make it with, PEM or JWK; with --check, a key to check it with, private or public (repeat it for more)
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    key: Vec<PathBuf>,

    /// Room that it is for; `team-*` is every room whose name begins so, `*` every room (repeat it for more)
    #[arg(long, value_name = "ROOM", value_parser = making::room, required_unless_present = "check", conflicts_with = "check")]
    room: Vec<String>,

    /// Who it is for: the name that others see
    #[arg(long, value_name = "USER", conflicts_with = "check")]
    sub: Option<String>,

    /// How long it is good: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = making::ttl, conflicts_with = "check")]
    ttl: std::time::Duration,

    /// Send no signals, and no messages to one peer
    #[arg(long, conflicts_with = "check")]
    no_publish: bool,

    /// Send no messages to the whole room
    #[arg(long, conflicts_with = "check")]
    no_broadcast: bool,

    /// Be sent nothing that others send
    #[arg(long, conflicts_with = "check")]
    no_subscribe: bool,

    /// Do not see who is there
    #[arg(long, conflicts_with = "check")]
    no_observe: bool,

    /// With so many peers a room is full for its bearer
    #[arg(long, value_name = "N", value_parser = positive(), conflicts_with = "check")]
    peers: Option<u32>,

    /// Messages a second, where that is less than the server's own limit
    #[arg(long, value_name = "N", value_parser = positive(), conflicts_with = "check")]
    messages_per_second: Option<u32>,

    /// Bytes a second, likewise
    #[arg(long, value_name = "N", value_parser = positive(), conflicts_with = "check")]
    bytes_per_second: Option<u32>,

    /// Joins a second, likewise
    #[arg(long, value_name = "N", value_parser = positive(), conflicts_with = "check")]
    joins_per_second: Option<u32>,

    /// Who makes it, where the server wants an `auth.issuer`; with --check and --key, the one that is wanted
    #[arg(long, value_name = "ISSUER")]
    iss: Option<String>,

    /// Whom it is meant for, where the server wants an `auth.audience`; with --check and --key, the one that is wanted
    #[arg(long, value_name = "AUDIENCE")]
    aud: Option<String>,

    /// With --check: configuration file whose keys and rules count
    /// [env: SWITCHBOARD_CONFIG]
    #[arg(long, verbatim_doc_comment, value_name = "FILE", requires = "check", conflicts_with = "key")]
    config: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = RSA)]
pub struct Keys {
    /// What they are for: eddsa and es256 make a pair, hs256 a secret that both sides have to know
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value = "eddsa")]
    alg: Algorithm,

    /// Directory for the files, made if there is none
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    Eddsa,
    Es256,
    Hs256,
}

fn positive() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl Token {
    /// What is to be printed; an error where a token is not good.
    pub fn run(self) -> anyhow::Result<String> {
        if self.check.is_some() { explain::run(self) } else { making::run(&self) }
    }
}

impl Keys {
    /// Makes them, and tells how to go on.
    pub fn run(&self) -> anyhow::Result<String> {
        pair::run(self.alg, &self.out)
    }
}
