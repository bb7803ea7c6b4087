//! The keys that tokens are checked with: public keys in PEM, JWK and JWKS (RFC 7517), each good for one algorithm alone.
//!
//! What a key is decides how a signature is checked; what a token says of itself only decides whether it is checked at all. So nobody can have
//! a public key taken for a secret. A key's name (`kid`) is compared and nothing else: it opens no file and no URL.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::{
    agreement, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey},
};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::{Deserialize, de::IgnoredAny};
use tracing::{error, info};
use x509_parser::{prelude::FromDer as _, public_key::RSAPublicKey, x509::SubjectPublicKeyInfo};

use crate::protocol::Object;

/// Bytes that a file of keys may have. A key is a few hundred.
const FILE_BYTES_MAX: u64 = 65_536;
/// Keys that one set may have.
const KEYS_MAX: usize = 64;
/// Bytes that a secret has at least: RFC 7518 §3.2.
const SECRET_BYTES_MIN: usize = 32;
/// Bits that an RSA key has: fewer are too weak, and more take too long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// How a token is signed: RFC 7518 §3, RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, with a secret that both sides know.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A key that signatures are checked with.
pub struct Key {
    name: Option<String>,
    kind: Kind,
}

enum Kind {
    Secret(hmac::Key),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a file of keys is not taken.
#[derive(Debug, thiserror::Error)]
#[error("{} {fault}", path.display())]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: KeyFault,
}

/// What is wrong with a key. Reads on after the name of where it comes from.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The file is none of keys.
    #[error("has more than {FILE_BYTES_MAX} bytes, and is no file of keys")]
    TooLong,
    /// It is something else.
    #[error("is neither a public key in PEM (BEGIN PUBLIC KEY) nor a JWK or JWKS")]
    NoKey,
    /// It has a private key in it, which nobody needs who only checks signatures.
    #[error("holds a private key; take the public one, which `openssl pkey -in FILE -pubout` prints")]
    Private,
    /// It has none, where tokens are to be made.
    #[error("holds no private key, which it takes to make tokens")]
    NotPrivate,
    /// It has one of a kind that makes no tokens.
    #[error(
        "holds a private key that cannot be used; taken are Ed25519, P-256 and RSA from 2048 bits as PKCS #8, which \
         `openssl pkcs8 -topk8 -nocrypt -in FILE` prints"
    )]
    NotSigning,
    /// A secret that can be guessed.
    #[error("holds a secret of {0} bytes, and HS256 takes at least {SECRET_BYTES_MIN}")]
    ShortSecret(usize),
    /// A secret where everybody can read it.
    #[error("publishes a secret")]
    PublicSecret,
    /// An RSA key of a wrong size.
    #[error("holds an RSA key of {0} bits, and RS256 takes 2048 to 8192")]
    RsaBits(usize),
    /// A key of another kind.
    #[error("holds a key of a kind that is not taken ({0}), which is RSA for RS256, P-256 for ES256, Ed25519 for EdDSA, and oct for HS256")]
    Kind(String),
    /// A key for another purpose.
    #[error("holds a key that is not for signatures: its {0}")]
    Purpose(String),
    /// Numbers that are no key.
    #[error("holds no valid key: its {0}")]
    Invalid(&'static str),
    /// More than one where a file is to have one, or many more than anybody needs.
    #[error("holds {0} keys, and at most {1} are taken")]
    Many(usize, usize),
    /// A set of which no key can be used, for this reason among others.
    #[error("holds no key that can be used; the first one {0}")]
    NoneUsable(Box<KeyFault>),
}

impl Algorithm {
    /// The name in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, if it is one that is taken. EdDSA is called by its curve as well: RFC 9864.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl Key {
    /// Reads a file: one public key in PEM, which is called as the file is, without its extension; a JWK, which is called so unless it has a `kid`;
    /// or a JWKS.
    pub fn read(path: &Path) -> Result<Vec<Arc<Self>>, KeyError> {
        let error = |fault| KeyError { path: path.to_owned(), fault };
        parse(path, &contents(path).map_err(error)?).map_err(error)
    }

    /// Reads what a JWKS's URL answers. What cannot be used is passed over.
    pub fn from_published_jwks(json: &[u8]) -> Result<Vec<Arc<Self>>, KeyFault> {
        from_set(json, |jwk| match jwk.kty.as_str() {
            "oct" => Ok(Err(KeyFault::PublicSecret)),
            _ => Ok(Self::from_jwk(jwk)),
        })
    }

    /// One public key in the form of a certificate's (SubjectPublicKeyInfo, RFC 5280).
    pub(super) fn from_spki(name: Option<String>, der: &[u8]) -> Result<Self, KeyFault> {
        let Ok(([], spki)) = SubjectPublicKeyInfo::from_der(der) else { return Err(KeyFault::Invalid("encoding")) };
        let bytes = &*spki.subject_public_key.data;
        let curve = || spki.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        match &*spki.algorithm.algorithm.to_id_string() {
            "1.2.840.113549.1.1.1" => Self::rsa(name, bytes),
            "1.2.840.10045.2.1" if curve().as_deref() == Some("1.2.840.10045.3.1.7") => Self::p256(name, bytes),
            "1.2.840.10045.2.1" => Err(KeyFault::Kind("another curve than P-256".to_owned())),
            "1.3.101.112" => Self::ed25519(name, bytes),
            other => Err(KeyFault::Kind(format!("OID {other}"))),
        }
    }

    /// One of RSA (RSAPublicKey, RFC 8017).
    pub(super) fn rsa(name: Option<String>, der: &[u8]) -> Result<Self, KeyFault> {
        let Ok(([], key)) = RSAPublicKey::from_der(der) else { return Err(KeyFault::Invalid("encoding")) };
        Ok(Self { name, kind: Kind::rsa(key.modulus, key.exponent)? })
    }

    /// One of P-256: an uncompressed point.
    pub(super) fn p256(name: Option<String>, point: &[u8]) -> Result<Self, KeyFault> {
        Ok(Self { name, kind: Kind::p256(point)? })
    }

    /// One of Ed25519: a point.
    pub(super) fn ed25519(name: Option<String>, point: &[u8]) -> Result<Self, KeyFault> {
        Ok(Self { name, kind: Kind::ed25519(point)? })
    }

    /// A JWK that is in no set.
    pub(super) fn from_lone_jwk(name: Option<String>, json: &[u8]) -> Result<Self, KeyFault> {
        let Object(jwk) = serde_json::from_slice(json).map_err(|_| KeyFault::NoKey)?;
        let key = Self::from_jwk(jwk)?;
        Ok(Self { name: key.name.or(name), ..key })
    }

    fn from_jwk(jwk: Jwk) -> Result<Self, KeyFault> {
        if jwk.d.is_some() {
            return Err(KeyFault::Private);
        }
        if let Some(usage) = jwk.usage.filter(|usage| usage != "sig") {
            return Err(KeyFault::Purpose(format!("use is {usage:?}")));
        }
        if let Some(operations) = jwk.key_ops.filter(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err(KeyFault::Purpose(format!("key_ops are {operations:?}")));
        }
        let number = |text: Option<String>, name| {
            let bytes = text.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
            bytes.ok_or(KeyFault::Invalid(name))
        };
        let kind = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Kind::rsa(&number(jwk.n, "n")?, &number(jwk.e, "e")?)?,
            ("EC", Some("P-256")) => {
                let (x, y) = (number(jwk.x, "x")?, number(jwk.y, "y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(KeyFault::Invalid("x or y"));
                }
                Kind::p256(&[&[4], &x[..], &y[..]].concat())?
            }
            ("OKP", Some("Ed25519")) => Kind::ed25519(&number(jwk.x, "x")?)?,
            ("oct", _) => Kind::secret(&number(jwk.k, "k")?)?,
            (kty, Some(crv)) => return Err(KeyFault::Kind(format!("{kty:?} on {crv:?}"))),
            (kty, None) => return Err(KeyFault::Kind(format!("{kty:?}"))),
        };
        let key = Self { name: jwk.kid, kind };
        match jwk.alg {
            Some(alg) if Algorithm::parse(&alg) != Some(key.algorithm()) => Err(KeyFault::Kind(format!("alg is {alg:?}"))),
            _ => Ok(key),
        }
    }

    /// What it is called: the `kid` of the tokens that it is for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The only algorithm that it is good for.
    pub fn algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::Secret(_) => Algorithm::Hs256,
            Kind::Rsa { .. } => Algorithm::Rs256,
            Kind::P256(_) => Algorithm::Es256,
            Kind::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Is this the signature of this message?
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.kind {
            Kind::Secret(key) => hmac::verify(key, message, signature),
            Kind::Rsa { modulus: n, exponent: e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Kind::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Kind::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// Keys as they are told: `a (EdDSA), b (RS256)`.
pub(super) fn list(keys: &[Arc<Key>]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name().unwrap_or("without a name"), self.algorithm().name())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

impl Kind {
    fn secret(bytes: &[u8]) -> Result<Self, KeyFault> {
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(KeyFault::ShortSecret(bytes.len()));
        }
        Ok(Self::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        let without_zeros = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyFault::RsaBits(bits));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        // The library takes exponents of up to 33 bits; 1 would verify anything.
        if !is_odd(&modulus) || !is_odd(&exponent) || exponent == [1] || exponent.len() > 4 {
            return Err(KeyFault::Invalid("modulus or exponent"));
        }
        Ok(Self::Rsa { modulus, exponent })
    }

    fn p256(point: &[u8]) -> Result<Self, KeyFault> {
        // To agree on a secret with it is the library's way to tell whether a point is on the curve.
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        let mine = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new());
        let mine = mine.expect("the system's random numbers make a key");
        let is_point = agreement::agree_ephemeral(mine, &peer, |_| ()).is_ok();
        if is_point { Ok(Self::P256(point.to_owned())) } else { Err(KeyFault::Invalid("point")) }
    }

    fn ed25519(point: &[u8]) -> Result<Self, KeyFault> {
        if point.len() == 32 { Ok(Self::Ed25519(point.to_owned())) } else { Err(KeyFault::Invalid("point")) }
    }
}

/// A file of keys that is looked at again while the server runs.
pub(super) struct KeyFile {
    path: PathBuf,
    /// What it held when it was last looked at, so that a fault in it is told once.
    seen: Option<Vec<u8>>,
    pub keys: Vec<Arc<Key>>,
}

impl KeyFile {
    /// Reads it for the first time.
    pub fn load(path: PathBuf) -> Result<Self, KeyError> {
        let error = |fault| KeyError { path: path.clone(), fault };
        let contents = contents(&path).map_err(error)?;
        let keys = parse(&path, &contents).map_err(error)?;
        Ok(Self { path, seen: Some(contents), keys })
    }

    /// Takes the keys that it holds now, if they are good. Whether there are others than before.
    pub fn refresh(&mut self) -> bool {
        let found = contents(&self.path);
        if found.as_ref().ok() == self.seen.as_ref() {
            return false;
        }
        let parsed = match &found {
            Ok(contents) => parse(&self.path, contents).map_err(|fault| fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        };
        self.seen = found.ok();
        match parsed {
            Ok(keys) => {
                info!(path = %self.path.display(), keys = list(&keys), "new keys are in use");
                self.keys = keys;
                true
            }
            Err(error) => {
                error!(path = %self.path.display(), %error, "the new keys are no good, the last good ones stay in use");
                false
            }
        }
    }
}

/// What of a JWK decides what it is good for.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    d: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

/// What a file of keys holds.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, KeyFault> {
    let mut contents = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > FILE_BYTES_MAX { Err(KeyFault::TooLong) } else { Ok(contents) }
}

fn parse(path: &Path, contents: &[u8]) -> Result<Vec<Arc<Key>>, KeyFault> {
    let name = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    if !contents.trim_ascii_start().starts_with(b"{") {
        return Ok(vec![Arc::new(from_pem(name(), contents)?)]);
    }
    if serde_json::from_slice::<Object<Jwks>>(contents).is_ok() {
        let keys = from_set(contents, |jwk| match Key::from_jwk(jwk) {
            // Passed over, it would lie there for ever.
            Err(fault @ (KeyFault::Private | KeyFault::ShortSecret(_))) => Err(fault),
            key => Ok(key),
        })?;
        return if keys.is_empty() { Err(KeyFault::NoKey) } else { Ok(keys) };
    }
    Ok(vec![Arc::new(Key::from_lone_jwk(name(), contents)?)])
}

fn from_pem(name: Option<String>, pem: &[u8]) -> Result<Key, KeyFault> {
    let sections: Result<Vec<_>, _> = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).collect();
    let sections = sections.map_err(|_| KeyFault::NoKey)?;
    let is_private = |kind: &SectionKind| matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey);
    // Kinds that the library does not know, such as encrypted ones, are not among the sections.
    if sections.iter().any(|(kind, _)| is_private(kind)) || pem.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
        return Err(KeyFault::Private);
    }
    let public: Vec<&Vec<u8>> = sections.iter().filter(|(kind, _)| *kind == SectionKind::PublicKey).map(|(_, der)| der).collect();
    match public[..] {
        [] => Err(KeyFault::NoKey),
        [der] => Key::from_spki(name, der),
        [..] => Err(KeyFault::Many(public.len(), 1)),
    }
}

const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// The keys of a set that can be used. A set may well have others (RFC 7517 §5), which are passed over; `key` says which of them are a reason to
/// take none.
fn from_set(json: &[u8], key: impl Fn(Jwk) -> Result<Result<Key, KeyFault>, KeyFault>) -> Result<Vec<Arc<Key>>, KeyFault> {
    let Object(Jwks { keys }) = serde_json::from_slice(json).map_err(|_| KeyFault::NoKey)?;
    if keys.len() > KEYS_MAX {
        return Err(KeyFault::Many(keys.len(), KEYS_MAX));
    }
    let mut usable = Vec::new();
    let mut first = None;
    for value in keys {
        match serde_json::from_value(value).map_or(Ok(Err(KeyFault::NoKey)), |Object(jwk)| key(jwk))? {
            Ok(key) => usable.push(Arc::new(key)),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    match first {
        Some(fault) if usable.is_empty() => Err(KeyFault::NoneUsable(Box::new(fault))),
        _ => Ok(usable),
    }
}
