//! Keys that an identity provider publishes: fetched from a real HTTP server that rotates them, is down, late, endless, or not to be trusted.

mod support;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{DEADLINE, eventually, within};
use switchboard::{
    auth::{Algorithm, Authorize as _, BadToken, PublishedKeys, Rules, SigningKey, Tokens, Visitor, jwks::FetchError, signing::Pair},
    protocol::PeerId,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What a provider does when it is asked.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Status(&'static str),
    /// To where the keys may well be.
    Redirect(SocketAddr),
    /// Keys, and after them spaces without an end.
    Endless(Value),
    /// As many bytes as it says, but the last ones do not come.
    Half(Value),
    Silence,
}

/// An identity provider. It ends with the runtime.
struct Provider {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().unwrap().clone();
                // Whoever asked may have gone.
                tokio::spawn(async move { drop(serve(socket, answer).await) });
            }
        });
        Self { address, answer, asked }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Fetched from here, with nothing that comes by itself.
    fn keys(&self) -> PublishedKeys {
        let url = format!("http://{}/keys", self.address).parse().unwrap();
        let hour = Duration::from_secs(3600);
        PublishedKeys { retry_after: hour, deadline: DEADLINE, ..PublishedKeys::new(url, hour) }
    }
}

async fn serve(mut socket: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(socket.read_u8().await?);
    }
    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
    let whole = |keys: &Value| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.to_string().len());
    match answer {
        Answer::Keys(keys) => socket.write_all(whole(&keys).as_bytes()).await,
        Answer::Status(status) => socket.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await,
        Answer::Redirect(to) => {
            let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/keys\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await
        }
        Answer::Endless(keys) => {
            socket.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{keys}").as_bytes()).await?;
            loop {
                socket.write_all(&[b' '; 4096]).await?;
            }
        }
        Answer::Half(keys) => {
            let answer = whole(&keys);
            socket.write_all(&answer.as_bytes()[..answer.len() - 1]).await?;
            std::future::pending().await
        }
        Answer::Silence => std::future::pending().await,
    }
}

/// A key of this name, and what is published of it.
fn key(directory: &TempDir, name: &str) -> (SigningKey, Value) {
    let pair = Pair::generate(Algorithm::EdDsa).unwrap();
    let private = directory.path().join(format!("{name}.key"));
    fs::write(&private, pair.private).unwrap();
    let public = pair.public.unwrap();
    fs::write(public_file(directory, name), &public).unwrap();
    let der = BASE64_STANDARD.decode(public.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    (SigningKey::read(&private).unwrap(), json!({ "kty": "OKP", "crv": "Ed25519", "kid": name, "use": "sig", "alg": "EdDSA", "x": x }))
}

fn public_file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(format!("{name}.pem"))
}

fn set(keys: &[&Value]) -> Answer {
    Answer::Keys(json!({ "keys": keys }))
}

fn tokens(published: PublishedKeys) -> Arc<Tokens> {
    Tokens::load(&[], Some(published), Rules::default()).unwrap()
}

fn token(key: &SigningKey) -> String {
    key.sign(&json!({ "sub": "alice", "exp": 4_000_000_000_u32, "rooms": ["*"] }))
}

fn verify(tokens: &Tokens, key: &SigningKey) -> Result<(), BadToken> {
    tokens.verify(&token(key), SystemTime::now()).map(drop)
}

async fn verify_or_fetch(tokens: &Tokens, key: &SigningKey) -> Result<(), BadToken> {
    within("a verdict", tokens.verify_or_fetch(&token(key), SystemTime::now())).await.map(drop)
}

#[tokio::test]
async fn a_key_that_was_just_made_is_good_for_the_first_token_and_one_that_is_gone_for_none() {
    let directory = tempfile::tempdir().unwrap();
    let ((old, old_jwk), (new, new_jwk)) = (key(&directory, "old"), key(&directory, "new"));
    let provider = Provider::start(set(&[&old_jwk])).await;
    let tokens = tokens(PublishedKeys { retry_after: Duration::ZERO, ..provider.keys() });
    assert_eq!(verify(&tokens, &old), Err(BadToken::UnknownKey), "nothing is fetched to check a token");
    assert_eq!(verify_or_fetch(&tokens, &old).await, Ok(()));
    assert_eq!(verify_or_fetch(&tokens, &old).await, Ok(()));
    assert_eq!(provider.asked(), 1, "a key that is known is not asked for");

    provider.answer(set(&[&old_jwk, &new_jwk]));
    assert_eq!(verify_or_fetch(&tokens, &new).await, Ok(()));
    assert_eq!(verify(&tokens, &old), Ok(()), "both are good while they are published");
    provider.answer(set(&[&new_jwk]));
    within("a fetch", tokens.fetch()).await.unwrap();
    assert_eq!(verify(&tokens, &old), Err(BadToken::UnknownKey));
    provider.answer(set(&[]));
    within("a fetch", tokens.fetch()).await.unwrap();
    assert_eq!(verify(&tokens, &new), Err(BadToken::UnknownKey), "all were withdrawn");
}

#[tokio::test]
async fn strangers_cannot_have_the_provider_asked_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let ((known, jwk), (stranger, _)) = (key(&directory, "known"), key(&directory, "stranger"));
    let provider = Provider::start(set(&[&jwk])).await;
    let tokens = tokens(provider.keys());
    // All at once: one asks, and all wait for the answer.
    let verdicts = join_all((0..50).map(|index| verify_or_fetch(&tokens, if index % 2 == 0 { &known } else { &stranger }))).await;
    for (index, verdict) in verdicts.into_iter().enumerate() {
        assert_eq!(verdict, if index % 2 == 0 { Ok(()) } else { Err(BadToken::UnknownKey) }, "{index}");
    }
    for _ in 0..20 {
        assert_eq!(verify_or_fetch(&tokens, &stranger).await, Err(BadToken::UnknownKey));
    }
    assert_eq!(provider.asked(), 1);
    let forged = stranger.sign_with_header(&json!({ "alg": "EdDSA", "kid": "known" }), b"{}");
    let verdict = tokens.verify_or_fetch(&forged, SystemTime::now()).await;
    assert_eq!(verdict, Err(BadToken::Signature));
    assert_eq!(provider.asked(), 1, "a wrong signature is no reason to ask");
}

#[tokio::test]
async fn while_nothing_good_comes_the_last_keys_stay_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let (known, jwk) = key(&directory, "known");
    let keys = json!({ "keys": [jwk] });
    let elsewhere = Provider::start(Answer::Keys(json!({ "keys": [key(&directory, "other").1] }))).await;
    let provider = Provider::start(Answer::Keys(keys.clone())).await;
    let tokens = tokens(PublishedKeys { deadline: Duration::from_millis(300), ..provider.keys() });
    within("a fetch", tokens.fetch()).await.unwrap();

    type Expected = fn(&FetchError) -> bool;
    let cases: [(&str, Answer, Expected); 12] = [
        ("an error", Answer::Status("500 Oops"), |error| matches!(error, FetchError::Status(500))),
        ("nothing there", Answer::Status("404 Not Found"), |error| matches!(error, FetchError::Status(404))),
        ("somewhere else", Answer::Redirect(elsewhere.address), |error| matches!(error, FetchError::Status(302))),
        ("without an end", Answer::Endless(keys.clone()), |error| matches!(error, FetchError::TooLong(262_144))),
        ("half of it", Answer::Half(keys.clone()), |error| matches!(error, FetchError::Unreachable(_))),
        ("nothing", Answer::Silence, |error| matches!(error, FetchError::Unreachable(_))),
        ("no set", Answer::Keys(json!(["x"])), |error| matches!(error, FetchError::Keys(_))),
        ("no JSON object", Answer::Keys(json!("keys")), |error| matches!(error, FetchError::Keys(_))),
        ("a key of no kind", Answer::Keys(json!({ "keys": [{ "kid": "known" }] })), |error| matches!(error, FetchError::Keys(_))),
        ("a secret", Answer::Keys(json!({ "keys": [{ "kty": "oct", "k": "A".repeat(43) }] })), |error| {
            error.to_string() == "it holds no key that can be used; the first one publishes a secret"
        }),
        ("a private key", Answer::Keys(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": "", "d": "" }] })), |error| {
            matches!(error, FetchError::Keys(_))
        }),
        ("too many keys", Answer::Keys(json!({ "keys": vec![key(&directory, "many").1; 65] })), |error| {
            error.to_string() == "it holds 65 keys, and at most 64 are taken"
        }),
    ];
    for (name, answer, expected) in cases {
        provider.answer(answer);
        let error = within(name, tokens.fetch()).await.unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        assert!(!error.to_string().contains(&provider.address.to_string()), "{name}: whoever tells it names the URL: {error}");
        assert_eq!(verify(&tokens, &known), Ok(()), "{name}");
    }
    assert_eq!(elsewhere.asked(), 0);
    provider.answer(Answer::Keys(keys));
    within("a fetch", tokens.fetch()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_in_a_set_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let ((good, jwk), (private, mut private_jwk)) = (key(&directory, "good"), key(&directory, "private"));
    private_jwk["d"] = json!("AAAA");
    let others = [
        json!({ "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "EC", "crv": "P-384", "x": "", "y": "" }),
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "" }),
        json!({ "kty": "oct", "k": "A".repeat(43) }),
        json!(7),
        private_jwk,
    ];
    let mut keys: Vec<&Value> = others.iter().collect();
    keys.push(&jwk);
    let provider = Provider::start(set(&keys)).await;
    let tokens = tokens(provider.keys());
    within("a fetch", tokens.fetch()).await.unwrap();
    assert_eq!(verify(&tokens, &good), Ok(()));
    assert_eq!(verify(&tokens, &private), Err(BadToken::UnknownKey));
    assert_eq!(tokens.keys().iter().map(ToString::to_string).collect::<Vec<_>>(), ["good (EdDSA)"]);
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_again_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (known, jwk) = key(&directory, "known");
    let provider = Provider::start(Answer::Status("503 Service Unavailable")).await;
    let settings = PublishedKeys { retry_after: Duration::from_millis(5), ..provider.keys() };
    let tokens = tokens(settings);
    let visitor = Visitor { token: Some(token(&known)), peer_id: PeerId::random(), address: Ipv4Addr::LOCALHOST.into(), dialect: "native" };
    let denied = within("a verdict", tokens.connect(visitor)).await.unwrap_err();
    assert!(denied.is_unavailable(), "{denied}");
    assert_eq!(denied.to_string(), "its token is not good: there is no key of its name: auth.jwks_url has given none yet");
    let watching = tokio::spawn(tokens.clone().watch(Duration::from_secs(3600)));
    eventually("several attempts", async || provider.asked() > 3).await;
    assert_eq!(verify(&tokens, &known), Err(BadToken::UnknownKey), "nobody comes in meanwhile");
    provider.answer(set(&[&jwk]));
    eventually("the keys", async || verify(&tokens, &known).is_ok()).await;
    watching.abort();
}

#[tokio::test]
async fn keys_are_taken_as_they_change_in_files_and_at_the_provider() {
    let directory = tempfile::tempdir().unwrap();
    let ((old_file, _), (old, old_jwk), (new, new_jwk)) = (key(&directory, "file"), key(&directory, "old"), key(&directory, "new"));
    let provider = Provider::start(set(&[&old_jwk])).await;
    let often = Duration::from_millis(5);
    let published = PublishedKeys { every: often, ..provider.keys() };
    let tokens = Tokens::load(&[public_file(&directory, "file")], Some(published), Rules::default()).unwrap();
    let watching = tokio::spawn(tokens.clone().watch(often));
    eventually("both keys", async || verify(&tokens, &old).is_ok() && verify(&tokens, &old_file).is_ok()).await;
    let (new_file, _) = key(&directory, "file");
    provider.answer(set(&[&new_jwk]));
    eventually("the new keys", async || verify(&tokens, &new).is_ok() && verify(&tokens, &new_file).is_ok()).await;
    assert_eq!(verify(&tokens, &old), Err(BadToken::UnknownKey));
    assert_eq!(verify(&tokens, &old_file), Err(BadToken::Signature));
    watching.abort();
}
