//! The certificates of both doors: loaded, looked at again while the server runs, and swapped under new connections alone.
//!
//! Either the operator gives a pair of files, and TCP is HTTPS as well; or the certificate is self-signed, for QUIC only. A new pair that
//! is no good is said so in the log, and the last good one stays in use.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use tracing::{error, info, warn};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::self_signed::{Hash, SelfSigned, in_use};

/// Where the certificate comes from.
pub enum Source {
    /// The operator's files: a chain and its key.
    Files { cert: PathBuf, key: PathBuf },
    /// Made by the server itself.
    SelfSigned(SelfSigned),
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file has no certificate in it.
    #[error("{} holds no certificate in PEM", path.display())]
    NoCertificate { path: PathBuf },
    /// A file has no key in it.
    #[error("{} holds no private key in PEM", path.display())]
    NoKey { path: PathBuf },
    /// Key and certificate do not make a pair.
    #[error("{} and {} make no pair: {source}", cert.display(), key.display())]
    NoPair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    /// The certificate's time is over, or has not come.
    #[error("{} is valid from {from} to {to}, and not now", path.display())]
    NotValidNow { path: PathBuf, from: OffsetDateTime, to: OffsetDateTime },
    /// The directory of self-signed certificates is of no use.
    #[error("{} cannot keep certificates: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    /// A certificate cannot carry these names.
    #[error("{0:?} are not names that a certificate can carry")]
    Names(Vec<String>),
}

/// The certificates that new connections are answered with.
pub struct Certificates {
    source: Source,
    in_use: ArcSwap<CertifiedKey>,
    /// Of all self-signed certificates that are valid; empty where the operator's files are used.
    hashes: ArcSwap<Vec<Hash>>,
    /// What the operator's files held when they were last looked at, so that a fault in them is told once.
    seen: Mutex<Option<FileContents>>,
}

type FileContents = (Option<Vec<u8>>, Option<Vec<u8>>);

impl Certificates {
    /// Loads them for the first time.
    pub fn load(source: Source, now: OffsetDateTime) -> Result<Arc<Self>, CertificateError> {
        let (key, hashes, seen) = match &source {
            Source::Files { cert, key } => {
                let seen = contents(cert, key);
                let pair = read_pair(cert, key)?;
                if let Err(error) = check_time(cert, &pair, now) {
                    warn!(%error, "the certificate is used all the same, clients will refuse it");
                }
                (Arc::new(pair), vec![], Some(seen))
            }
            Source::SelfSigned(certificates) => {
                let generations = certificates.generations(now)?;
                (in_use(&generations, now).key.clone(), generations.iter().map(|generation| generation.hash).collect(), None)
            }
        };
        Ok(Arc::new(Self { source, in_use: ArcSwap::new(key), hashes: ArcSwap::new(Arc::new(hashes)), seen: Mutex::new(seen) }))
    }

    /// Looks at files and directory as often as told, for ever.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let certificates = self.clone();
            // Disks may be slow, and this thread has more to do.
            let refreshed = tokio::task::spawn_blocking(move || certificates.refresh(OffsetDateTime::now_utc())).await;
            refreshed.expect("looking at certificates does not panic");
        }
    }

    /// Takes what is new, if it is good.
    fn refresh(&self, now: OffsetDateTime) {
        match &self.source {
            Source::Files { cert, key } => {
                let found = contents(cert, key);
                let mut seen = self.seen.lock().expect("nobody panics with it");
                if seen.as_ref() == Some(&found) {
                    return;
                }
                *seen = Some(found);
                match read_pair(cert, key).and_then(|pair| check_time(cert, &pair, now).map(|()| pair)) {
                    Ok(pair) => {
                        self.in_use.store(Arc::new(pair));
                        info!(cert = %cert.display(), "a new certificate is in use");
                    }
                    Err(error) => error!(%error, "the new certificate is no good, the last good one stays in use"),
                }
            }
            Source::SelfSigned(certificates) => match certificates.generations(now) {
                Ok(generations) => {
                    self.hashes.store(Arc::new(generations.iter().map(|generation| generation.hash).collect()));
                    self.in_use.store(in_use(&generations, now).key.clone());
                }
                Err(error) => error!(%error, "the self-signed certificate cannot be renewed"),
            },
        }
    }

    /// Is the certificate one that a client can only know by its hash?
    pub fn is_self_signed(&self) -> bool {
        matches!(self.source, Source::SelfSigned(_))
    }

    /// The hashes of all self-signed certificates that are valid, the oldest first.
    pub fn hashes(&self) -> Arc<Vec<Hash>> {
        self.hashes.load_full()
    }

    /// TLS for TCP, which there is only with the operator's certificate.
    pub fn tcp(self: &Arc<Self>) -> Option<ServerConfig> {
        // HTTP/1.1 alone: the HTTP/2 of the server library carries RUSTSEC-2026-0258.
        (!self.is_self_signed()).then(|| self.server_config(rustls::ALL_VERSIONS, &[b"http/1.1"]))
    }

    /// The first name that the operator's certificate is for, if it is for one and not for every name of a domain.
    pub fn name(&self) -> Option<String> {
        let pair = self.in_use.load_full();
        let (_, parsed) = X509Certificate::from_der(pair.end_entity_cert().ok()?).ok()?;
        let names = &parsed.subject_alternative_name().ok()??.value.general_names;
        let name = names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
            _ => None,
        });
        name.filter(|_| !self.is_self_signed())
    }

    /// TLS for TURN over TCP, by the same certificate.
    pub fn turn(self: &Arc<Self>) -> Option<ServerConfig> {
        // Without a protocol of its own, for browsers name none.
        (!self.is_self_signed()).then(|| self.server_config(rustls::ALL_VERSIONS, &[]))
    }

    /// TLS for QUIC.
    pub fn quic(self: &Arc<Self>) -> ServerConfig {
        self.server_config(&[&rustls::version::TLS13], &[b"h3"])
    }

    fn server_config(self: &Arc<Self>, versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[&[u8]]) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.expect("the provider knows these versions").with_no_client_auth();
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // All that are offered are good; which one is used is not for whoever comes to say.
        config.ignore_client_order = true;
        config
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use.load_full())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

/// The one provider of cryptography, for both doors.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads a certificate chain and its key, and sees to it that they belong together.
pub(super) fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let read = |path: &Path| fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source });
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let Some(chain) = chain.ok().filter(|chain| !chain.is_empty()) else {
        return Err(CertificateError::NoCertificate { path: cert.to_owned() });
    };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| CertificateError::NoKey { path: key.to_owned() })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|source| CertificateError::NoPair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    })
}

/// The SHA-256 of a certificate.
pub(super) fn sha256(der: &[u8]) -> Hash {
    *wtransport::tls::Certificate::from_der(der.to_vec()).expect("it was parsed before").hash().as_ref()
}

fn check_time(path: &Path, pair: &CertifiedKey, now: OffsetDateTime) -> Result<(), CertificateError> {
    let der = pair.end_entity_cert().expect("a pair has a certificate");
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return Err(CertificateError::NoCertificate { path: path.to_owned() });
    };
    let (from, to) = (parsed.validity().not_before.to_datetime(), parsed.validity().not_after.to_datetime());
    if (from..to).contains(&now) { Ok(()) } else { Err(CertificateError::NotValidNow { path: path.to_owned(), from, to }) }
}

fn contents(cert: &Path, key: &Path) -> FileContents {
    (fs::read(cert).ok(), fs::read(key).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 12:00 UTC);

    /// Writes a pair that expires a day after `day`.
    fn write_pair(directory: &Path, day: OffsetDateTime) -> Vec<u8> {
        let key_pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (day, day + time::Duration::DAY);
        let certificate = params.self_signed(&key_pair).unwrap();
        fs::write(directory.join("chain.pem"), certificate.pem()).unwrap();
        fs::write(directory.join("key.pem"), key_pair.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.in_use.load().end_entity_cert().unwrap().to_vec()
    }

    #[test]
    fn a_good_new_pair_is_taken_and_a_bad_one_leaves_the_last_good_one_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
        let first = write_pair(directory.path(), NOW);
        let certificates = Certificates::load(Source::Files { cert: cert.clone(), key: key.clone() }, NOW).unwrap();
        assert_eq!(served(&certificates), first);
        let second = write_pair(directory.path(), NOW);
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), second);

        let chain = fs::read(&cert).unwrap();
        write_pair(directory.path(), NOW);
        fs::write(&cert, chain).unwrap();
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), second, "a certificate with the key of another");
        fs::write(&key, "no key").unwrap();
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), second, "no key");
        fs::remove_file(&cert).unwrap();
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), second, "no certificate");
        write_pair(directory.path(), NOW - time::Duration::WEEK);
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), second, "an expired one");
        let last = write_pair(directory.path(), NOW);
        certificates.refresh(NOW);
        assert_eq!(served(&certificates), last);
    }

    #[test]
    fn what_is_wrong_with_a_pair_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
        let problem = || read_pair(&cert, &key).unwrap_err().to_string();
        assert!(problem().starts_with(&format!("{} cannot be read: ", cert.display())));
        write_pair(directory.path(), NOW);
        let chain = fs::read(&cert).unwrap();
        fs::write(&cert, "nothing").unwrap();
        assert_eq!(problem(), format!("{} holds no certificate in PEM", cert.display()));
        fs::write(&cert, &chain).unwrap();
        fs::write(&key, &chain).unwrap();
        assert_eq!(problem(), format!("{} holds no private key in PEM", key.display()));
        write_pair(directory.path(), NOW);
        fs::write(&cert, &chain).unwrap();
        assert!(problem().contains(" make no pair: "), "{}", problem());
    }

    #[test]
    fn only_the_operators_certificate_is_for_tcp_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let made = SelfSigned::new(directory.path().to_owned(), vec!["localhost".to_owned()]);
        let certificates = Certificates::load(Source::SelfSigned(made), NOW).unwrap();
        assert!(certificates.tcp().is_none());
        assert_eq!(certificates.hashes().len(), 1);
        assert_eq!(sha256(&served(&certificates)), certificates.hashes()[0]);
        write_pair(directory.path(), NOW);
        let files = Source::Files { cert: directory.path().join("chain.pem"), key: directory.path().join("key.pem") };
        let certificates = Certificates::load(files, NOW).unwrap();
        assert!(certificates.tcp().is_some());
        assert!(certificates.hashes().is_empty());
    }
}
