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

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 3711, B.3: the keys that come of a master key.
    #[test]
    fn the_stream_cipher_is_that_of_the_standard() {
        let key: [u8; 16] = bytes("e1f97a0d3e018be0d64fa32c06de4139").try_into().unwrap();
        for (iv, derived) in [
            ("0ec675ad498afeebb6960b3aabe60000", "c61e7a93744f39ee10734afe3ff7a087"),
            ("0ec675ad498afee9b6960b3aabe60000", "30cbbc08863d8c85d49db34a9ae1"),
            (
                "0ec675ad498afeeab6960b3aabe60000",
                "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2dc68",
            ),
        ] {
            let (iv, derived): ([u8; 16], _) = (bytes(iv).try_into().unwrap(), bytes(derived));
            let mut stream = vec![0; derived.len()];
            Counter(key).encrypt(&iv, &vec![0; derived.len()], &mut stream).unwrap();
            assert_eq!(stream, derived);
            let mut block = [0; 32];
            Srtp.srtp_aes_128_ecb_round(&key, &iv, &mut block);
            assert_eq!(block[..14], derived[..14]);
        }
    }

    /// RFC 7714, 16.1.1 and 16.2.1.
    #[test]
    fn gcm_is_that_of_the_standard() {
        let key: Vec<u8> = (0..32).collect();
        let iv: [u8; 12] = bytes("51753c6580c2726f20718414").try_into().unwrap();
        let (header, plain) = (bytes("8040f17b8041f8d35501a0b2"), b"Gallia est omnis divisa in partes tres");
        let (mut small, mut large) = (Gcm::new(&aead::AES_128_GCM, &key[..16]), Gcm::new(&aead::AES_256_GCM, &key));
        let mut sealed = [vec![0; plain.len() + 16], vec![0; plain.len() + 16]];
        AeadAes128GcmCipher::encrypt(&mut small, &iv, &header, plain, &mut sealed[0]).unwrap();
        AeadAes256GcmCipher::encrypt(&mut large, &iv, &header, plain, &mut sealed[1]).unwrap();
        assert_eq!(
            sealed[0],
            bytes("f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce")
        );
        assert_eq!(
            sealed[1],
            bytes("32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13")
        );
        let (first, rest) = header.split_at(5);
        let mut opened = [0; 38];
        let length = AeadAes128GcmCipher::decrypt(&mut small, &iv, &[first, rest], &sealed[0], &mut opened).unwrap();
        assert_eq!(&opened[..length], plain);
        let length = AeadAes256GcmCipher::decrypt(&mut large, &iv, &[first, rest], &sealed[1], &mut opened).unwrap();
        assert_eq!(&opened[..length], plain);
        sealed.iter_mut().for_each(|sealed| sealed[0] ^= 1);
        assert!(AeadAes128GcmCipher::decrypt(&mut small, &iv, &[&header], &sealed[0], &mut opened).is_err());
        assert!(AeadAes256GcmCipher::decrypt(&mut large, &iv, &[&header], &sealed[1], &mut opened).is_err());
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        // RFC 2202, the second case.
        let signed = Hashes.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(signed[..], bytes("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"));
        // FIPS 180-2, A.1 and B.1.
        assert_eq!(Hashes.sha1(b"abc")[..], bytes("a9993e364706816aba3e25717850c26c9cd0d89d"));
        assert_eq!(Hashes.sha256(b"abc")[..], bytes("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    }
}
