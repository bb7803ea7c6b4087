//! The cryptography of a connection, as str0m asks for it: hashes, GCM and certificates by ring, which the doors stand on anyway; the handshake of DTLS by
//! dimpl, and the stream cipher of SRTP by `aes`, both pure Rust. str0m's own set of the latter takes a second provider along for one certificate.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Instant,
};

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, KeyIvInit as _, StreamCipher as _, typenum};
use rcgen::{CertificateParams, KeyPair};
use ring::{aead, digest, hmac};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider, Sha1HmacProvider, Sha1Provider,
    Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
    dtls::{DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion},
};

/// All of it.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            srtp_provider: &Srtp,
            sha1_hmac_provider: &Hashes,
            sha1_provider: &Hashes,
            sha256_provider: &Hashes,
            dtls_provider: &Handshakes,
        })
    });
    PROVIDER.clone()
}

#[derive(Debug)]
struct Hashes;

impl Sha1HmacProvider for Hashes {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
        payloads.iter().for_each(|payload| context.update(payload));
        context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
    }
}

impl Sha1Provider for Hashes {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data).as_ref().try_into().expect("SHA-1 has 20 bytes")
    }
}

impl Sha256Provider for Hashes {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[derive(Debug)]
struct Handshakes;

impl DtlsProvider for Handshakes {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        // ECDSA with P-256, as browsers make theirs.
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::new([]).and_then(|params| params.self_signed(&key)).ok()?;
        Some(DtlsCert { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // ICE has seen by then that the other is where it says to be.
        let config = dimpl::Config::builder().use_server_cookie(false);
        let config = mtu.into_iter().fold(config, dimpl::ConfigBuilder::mtu).build();
        let config = Arc::new(config.map_err(|error| CryptoError::Other(error.to_string()))?);
        let certificate = DtlsCert { certificate: certificate.certificate.clone(), private_key: certificate.private_key.clone() };
        let dtls = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            _ => dimpl::Dtls::new_auto(config, certificate, now),
        };
        Ok(Box::new(Handshake(dtls)))
    }
}

struct Handshake(dimpl::Dtls);

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake")
    }
}

impl DtlsInstance for Handshake {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buf)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

#[derive(Debug)]
struct Srtp;

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Self
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Self
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Self
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        ecb(&aes::Aes128::new_from_slice(key).expect("16 bytes"), input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        ecb(&aes::Aes256::new_from_slice(key).expect("32 bytes"), input, output);
    }
}

/// One block, and behind it the padding of a message that ends with a block (PKCS #7), as whoever asks for it expects.
fn ecb(cipher: &impl BlockCipherEncrypt<BlockSize = typenum::U16>, input: &[u8], output: &mut [u8]) {
    let padding = [16; 16];
    for (block, output) in [input, &padding].into_iter().zip(output.chunks_exact_mut(16)) {
        let mut block = Array::try_from(block).expect("16 bytes");
        cipher.encrypt_block(&mut block);
        output.copy_from_slice(&block);
    }
}

impl SupportedAes128CmSha1_80 for Srtp {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(Counter(key))
    }
}

impl SupportedAeadAes128Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 16], _encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm::new(&aead::AES_128_GCM, &key))
    }
}

impl SupportedAeadAes256Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 32], _encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm::new(&aead::AES_256_GCM, &key))
    }
}

/// AES in counter mode, the same both ways.
struct Counter([u8; 16]);

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter")
    }
}

impl Aes128CmSha1_80Cipher for Counter {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let output = &mut output[..input.len()];
        output.copy_from_slice(input);
        ctr::Ctr128BE::<aes::Aes128>::new(&self.0.into(), &(*iv).into()).apply_keystream(output);
        Ok(())
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

struct Gcm(aead::LessSafeKey);

impl fmt::Debug for Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gcm")
    }
}

impl Gcm {
    fn new(algorithm: &'static aead::Algorithm, key: &[u8]) -> Self {
        Self(aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).expect("the key is as long as the algorithm has it")))
    }

    fn seal(&self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let (sealed, tag) = output.split_at_mut(input.len());
        sealed.copy_from_slice(input);
        let nonce = aead::Nonce::assume_unique_for_key(*iv);
        let made = self.0.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), sealed);
        let made = made.map_err(|_| CryptoError::Other("too much for one key".into()))?;
        tag[..made.as_ref().len()].copy_from_slice(made.as_ref());
        Ok(())
    }

    fn open(&self, iv: &[u8; 12], aads: &[&[u8]], input: &[u8], output: &mut [u8]) -> Result<usize, CryptoError> {
        let mut sealed = input.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(*iv);
        let opened = self.0.open_in_place(nonce, aead::Aad::from(aads.concat()), &mut sealed);
        let opened = opened.map_err(|_| CryptoError::Other("not what was sealed".into()))?;
        output[..opened.len()].copy_from_slice(opened);
        Ok(opened.len())
    }
}

impl AeadAes128GcmCipher for Gcm {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(&mut self, iv: &[u8; 12], aads: &[&[u8]], input: &[u8], output: &mut [u8]) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(&mut self, iv: &[u8; 12], aads: &[&[u8]], input: &[u8], output: &mut [u8]) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key derivation of RFC 3711, B.2 and B.3, and packets there and back.
    #[test]
    fn ciphers_are_those_of_the_standards() {
        let key = [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&[0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd]);
        let mut stream = [0; 16];
        Counter(key).encrypt(&iv, &[0; 16], &mut stream).unwrap();
        assert_eq!(stream[..8], [0xe0, 0x3e, 0xad, 0x09, 0x35, 0xc9, 0x5e, 0x80]);
        let mut block = [0; 32];
        Srtp.srtp_aes_128_ecb_round(&key, &iv, &mut block);
        assert_eq!(block[..16], stream);

        let mut gcm = Gcm::new(&aead::AES_256_GCM, &[7; 32]);
        let mut sealed = [0; 5 + 16];
        AeadAes256GcmCipher::encrypt(&mut gcm, &[1; 12], b"header and more", b"hello", &mut sealed).unwrap();
        let mut opened = [0; 5];
        let length = AeadAes256GcmCipher::decrypt(&mut gcm, &[1; 12], &[b"header ", b"and more"], &sealed, &mut opened).unwrap();
        assert_eq!(&opened[..length], b"hello");
        sealed[0] ^= 1;
        assert!(AeadAes256GcmCipher::decrypt(&mut gcm, &[1; 12], &[b"header and more"], &sealed, &mut opened).is_err());
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        // RFC 2202, the second case.
        assert_eq!(Hashes.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"])[..4], [0xef, 0xfc, 0xdf, 0x6a]);
        assert_eq!(Hashes.sha1(b"abc")[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(Hashes.sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
