//! Keys that tokens are made with: the other half of [`keys`](super::keys). The program's commands `token` and `keys` use them, and tests; a server
//! that takes tokens never does.

use std::path::Path;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{KeyPair as GeneratedPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Value, json};

use super::keys::{Algorithm, Key, KeyError, KeyFault, contents};

/// A key that tokens are made with.
pub struct SigningKey {
    name: Option<String>,
    kind: Kind,
}

enum Kind {
    Secret { key: hmac::Key, jwk: Vec<u8> },
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A pair that was just made.
pub struct Pair {
    /// The contents of the file for who makes tokens: PEM (PKCS #8), or a JWK where there is a secret.
    pub private: String,
    /// The contents of the file for who checks them: PEM. None where both need the secret.
    pub public: Option<String>,
    /// Some letters and digits that no other pair's will be.
    pub fingerprint: String,
}

impl SigningKey {
    /// Reads a private key in PEM (PKCS #8, or PKCS #1 for RSA), which is called as the file is, without its extension, or a JWK of kind `oct`.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let error = |fault| KeyError { path: path.to_owned(), fault };
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(name, contents(path).map_err(error)?).map_err(error)
    }

    fn parse(name: Option<String>, contents: Vec<u8>) -> Result<Self, KeyFault> {
        if contents.trim_ascii_start().starts_with(b"{") {
            // Read as the server reads it, so that what one makes the other takes.
            let checked = Key::from_lone_jwk(name, &contents).map_err(|fault| match fault {
                KeyFault::Private => KeyFault::NotSigning,
                fault => fault,
            })?;
            let jwk: Value = serde_json::from_slice(&contents).map_err(|_| KeyFault::NoKey)?;
            let secret = jwk["k"].as_str().and_then(|k| BASE64_URL_SAFE_NO_PAD.decode(k).ok()).ok_or(KeyFault::NotPrivate)?;
            let kind = Kind::Secret { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), jwk: contents };
            return Ok(Self { name: checked.name().map(str::to_owned), kind });
        }
        let (section, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(&contents).map_err(|_| KeyFault::NotPrivate)?;
        let random = SystemRandom::new();
        let kind = match section {
            SectionKind::PrivateKey => None
                .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok().map(Kind::Ed25519))
                .or_else(|| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).ok().map(Kind::P256))
                .or_else(|| rsa::KeyPair::from_pkcs8(&der).ok().map(Kind::Rsa)),
            SectionKind::RsaPrivateKey => rsa::KeyPair::from_der(&der).ok().map(Kind::Rsa),
            SectionKind::PublicKey | SectionKind::Certificate => return Err(KeyFault::NotPrivate),
            _ => None,
        };
        Ok(Self { name, kind: kind.ok_or(KeyFault::NotSigning)? })
    }

    /// The only algorithm that it is good for.
    pub fn algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::Secret { .. } => Algorithm::Hs256,
            Kind::Rsa(_) => Algorithm::Rs256,
            Kind::P256(_) => Algorithm::Es256,
            Kind::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = json!({ "alg": self.algorithm().name(), "typ": "JWT" });
        if let Some(name) = &self.name {
            header["kid"] = name.as_str().into();
        }
        self.sign_with_header(&header, claims.to_string().as_bytes())
    }

    /// A token with this header, whatever it says, and these bytes.
    pub fn sign_with_header(&self, header: &Value, payload: &[u8]) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.kind {
            Kind::Secret { key, .. } => hmac::sign(key, message).as_ref().to_vec(),
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("the signature is as long as the modulus");
                signature
            }
            Kind::P256(pair) => pair.sign(&random, message).expect("the system has random numbers").as_ref().to_vec(),
            Kind::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// What its tokens are checked with.
    pub fn public(&self) -> Key {
        let name = self.name.clone();
        let key = match &self.kind {
            Kind::Secret { jwk, .. } => Key::from_lone_jwk(name, jwk),
            Kind::Rsa(pair) => Key::rsa(name, pair.public().as_ref()),
            Kind::P256(pair) => Key::p256(name, pair.public_key().as_ref()),
            Kind::Ed25519(pair) => Key::ed25519(name, pair.public_key().as_ref()),
        };
        key.expect("a pair that signs has a public half")
    }
}

impl Pair {
    /// A new one. None for RS256, of which the library makes no keys.
    pub fn generate(algorithm: Algorithm) -> Option<Self> {
        let kind = match algorithm {
            Algorithm::EdDsa => &PKCS_ED25519,
            Algorithm::Es256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::Hs256 => return Some(Self::secret()),
            Algorithm::Rs256 => return None,
        };
        let pair = match algorithm {
            Algorithm::EdDsa => ed25519(),
            _ => GeneratedPair::generate_for(kind).expect("the system's random numbers make a key"),
        };
        let fingerprint = fingerprint(pair.public_key_raw());
        Some(Self { private: pair.serialize_pem(), public: Some(pair.public_key_pem()), fingerprint })
    }

    fn secret() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system has random numbers");
        let fingerprint = fingerprint(&secret);
        let jwk = json!({ "kty": "oct", "alg": "HS256", "use": "sig", "k": BASE64_URL_SAFE_NO_PAD.encode(secret) });
        Self { private: format!("{jwk}\n"), public: None, fingerprint }
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A pair without its public half beside the private one, which RFC 8410 leaves out and OpenSSL refuses.
fn ed25519() -> GeneratedPair {
    // The head of `OneAsymmetricKey` of version 1: RFC 8410 §7.
    let mut key = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20................................";
    getrandom::fill(&mut key[16..]).expect("the system has random numbers");
    GeneratedPair::try_from(key.as_slice()).expect("any 32 bytes are a key")
}
