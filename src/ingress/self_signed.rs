//! Self-signed certificates in a directory: made when there is none, made anew long before the last one expires.
//!
//! Browsers take a self-signed certificate by its hash if it uses ECDSA P-256 and is valid for at most 14 days. A client learns the
//! hashes first and connects later, so a new certificate is listed for an hour before it is used, and the old one is used until then.
//! The directory is all the state there is: several servers may share it. Nothing here asks for the time or opens a socket.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime, macros::format_description};
use tracing::{debug, info, warn};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::tls::{self, CertificateError};

/// From its first to its last second. The rule for `serverCertificateHashes` is 14 days: WebTransport, §Custom certificate requirements.
const VALIDITY: Duration = Duration::days(14).saturating_sub(Duration::MINUTE);
/// A certificate is valid from before it was made, for clients whose clock is behind.
const BACKDATED: Duration = Duration::HOUR;
/// How long a certificate is listed before it is used.
const LISTED: Duration = Duration::HOUR;
/// How long before the newest one expires the next is made. A server that was off for a while then still has one at hand.
const AHEAD: Duration = Duration::days(4);

const PREFIX: &str = "self-signed-";
const CERTIFICATE_SUFFIX: &str = ".cert.pem";
const KEY_SUFFIX: &str = ".key.pem";

/// The SHA-256 of a certificate, by which browsers know it.
pub type Hash = [u8; 32];

/// A directory of certificates for the same names.
pub struct SelfSigned {
    directory: PathBuf,
    names: Vec<String>,
}

/// One certificate of the directory, with its key.
#[derive(Clone)]
pub struct Generation {
    pub key: Arc<CertifiedKey>,
    pub hash: Hash,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl SelfSigned {
    /// Certificates in `directory` that carry all of `names`, each a DNS name or an IP address.
    pub fn new(directory: PathBuf, names: Vec<String>) -> Self {
        Self { directory, names }
    }

    /// Those that are valid now, the oldest first; never none, because one is made when the newest runs out soon. Removes those that
    /// have expired, of whatever names.
    pub fn generations(&self, now: OffsetDateTime) -> Result<Vec<Generation>, CertificateError> {
        let mut generations = self.read(now)?;
        if generations.last().is_none_or(|newest| newest.not_after < now + AHEAD) {
            match self.make(now) {
                Ok(made) => generations.push(made),
                Err(error) if generations.is_empty() => return Err(error),
                Err(error) => warn!(%error, "the next self-signed certificate cannot be made, the last one is still valid"),
            }
        }
        Ok(generations)
    }

    fn read(&self, now: OffsetDateTime) -> Result<Vec<Generation>, CertificateError> {
        let failed = |source| CertificateError::Directory { path: self.directory.clone(), source };
        let mut generations = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(generations),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let certificate = entry.map_err(failed)?.path();
            let name = certificate.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // The directory may hold what others put there.
            let Some(stem) = name.strip_suffix(CERTIFICATE_SUFFIX).filter(|stem| stem.starts_with(PREFIX)) else { continue };
            let key = certificate.with_file_name(format!("{stem}{KEY_SUFFIX}"));
            match Generation::read(&certificate, &key) {
                Ok((generation, _)) if generation.not_after <= now => {
                    // Another server may have been faster.
                    let _ = fs::remove_file(&certificate).and_then(|()| fs::remove_file(&key));
                }
                Ok((generation, names)) if generation.not_before <= now && self.names.iter().all(|name| names.contains(name)) => {
                    generations.push(generation);
                }
                Ok(_) => {}
                Err(error) => debug!(%error, "a self-signed certificate is passed over"),
            }
        }
        generations.sort_by_key(|generation| (generation.not_before, generation.hash));
        Ok(generations)
    }

    fn make(&self, now: OffsetDateTime) -> Result<Generation, CertificateError> {
        let key_pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("the system's random numbers make a key");
        let mut params = CertificateParams::new(self.names.clone()).map_err(|_| CertificateError::Names(self.names.clone()))?;
        params.distinguished_name.push(DnType::CommonName, "Switchboard, self-signed");
        params.not_before = now - BACKDATED;
        params.not_after = params.not_before + VALIDITY;
        let certificate = params.self_signed(&key_pair).expect("a key signs its own certificate");

        let failed = |source| CertificateError::Directory { path: self.directory.clone(), source };
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let hash = tls::sha256(certificate.der());
        let written_at = now.format(format_description!("[year][month][day]T[hour][minute][second]")).expect("the parts of a date");
        // Two servers that begin in the same second make two certificates, and then use both.
        let stem = format!("{PREFIX}{written_at}-{:02x}{:02x}", hash[0], hash[1]);
        let at = |suffix| self.directory.join(format!("{stem}{suffix}"));
        // The key first: where a certificate stands, its key does.
        write_whole(&at(KEY_SUFFIX), key_pair.serialize_pem().as_bytes(), 0o600).map_err(failed)?;
        write_whole(&at(CERTIFICATE_SUFFIX), certificate.pem().as_bytes(), 0o644).map_err(failed)?;
        let (generation, _) = Generation::read(&at(CERTIFICATE_SUFFIX), &at(KEY_SUFFIX))?;
        info!(names = ?self.names, until = %generation.not_after, path = %at(CERTIFICATE_SUFFIX).display(), "a self-signed certificate was made");
        Ok(generation)
    }
}

impl Generation {
    /// The certificate with its names.
    fn read(certificate: &Path, key: &Path) -> Result<(Self, Vec<String>), CertificateError> {
        let key = tls::read_pair(certificate, key)?;
        let der = key.end_entity_cert().expect("a pair has a certificate");
        let unreadable = || CertificateError::NoCertificate { path: certificate.to_owned() };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
        let names = names.into_iter().flatten().filter_map(written).collect();
        let validity = parsed.validity();
        let generation = Self {
            hash: tls::sha256(der),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            key: Arc::new(key),
        };
        Ok((generation, names))
    }
}

/// The one to use of those that are listed: the newest that has been listed long enough, or else the oldest.
pub fn in_use(generations: &[Generation], now: OffsetDateTime) -> &Generation {
    let known = |generation: &&Generation| generation.not_before + BACKDATED + LISTED <= now;
    generations.iter().rev().find(known).unwrap_or(&generations[0])
}

/// A name of a certificate as it is written in the settings.
fn written(name: &GeneralName<'_>) -> Option<String> {
    use std::net::IpAddr;
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Writes a file that nobody ever sees half written, or readable by more than `mode` allows.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn hashes(generations: &[Generation]) -> Vec<Hash> {
        generations.iter().map(|generation| generation.hash).collect()
    }

    const START: OffsetDateTime = time::macros::datetime!(2026-01-01 12:00 UTC);

    #[test]
    fn a_certificate_is_kept_and_meets_the_rule_of_browsers() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = SelfSigned::new(directory.path().join("certs"), names(&["localhost", "127.0.0.1", "::1"]));
        let made = certificates.generations(START).unwrap();
        assert_eq!(hashes(&certificates.generations(START + Duration::days(5)).unwrap()), hashes(&made));
        assert!(made[0].not_after - made[0].not_before < Duration::days(14));
        let der = made[0].key.end_entity_cert().unwrap();
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        assert_eq!(parsed.public_key().algorithm.parameters.as_ref().unwrap().as_oid().unwrap().to_id_string(), "1.2.840.10045.3.1.7");
        let files: Vec<_> = fs::read_dir(directory.path().join("certs")).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.len(), 2);
        let key = files.iter().find(|file| file.file_name().to_str().unwrap().ends_with(KEY_SUFFIX)).unwrap();
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_next_certificate_is_listed_an_hour_before_it_is_used_and_the_old_one_until_it_expires() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = SelfSigned::new(directory.path().to_owned(), names(&["localhost"]));
        let old = certificates.generations(START).unwrap()[0].hash;
        assert_eq!(in_use(&certificates.generations(START).unwrap(), START).hash, old, "the only one is used at once");
        let expires = START - BACKDATED + VALIDITY;
        let renewed_at = expires - AHEAD + Duration::SECOND;
        let both = certificates.generations(renewed_at).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].hash, old);
        assert_eq!(in_use(&both, renewed_at + LISTED - Duration::SECOND).hash, old);
        assert_eq!(in_use(&both, renewed_at + LISTED).hash, both[1].hash);
        assert_eq!(hashes(&certificates.generations(expires - Duration::SECOND).unwrap()), hashes(&both));
        assert_eq!(hashes(&certificates.generations(expires).unwrap()), hashes(&both[1..]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the expired one is removed with its key");
    }

    #[test]
    fn a_certificate_that_lacks_a_name_or_its_key_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let of = |wanted: &[&str]| SelfSigned::new(directory.path().to_owned(), names(wanted)).generations(START).unwrap();
        let first = hashes(&of(&["localhost"]));
        let second = of(&["localhost", "10.0.0.1", "2001:db8::1", "*.example.org"]);
        assert_ne!(hashes(&second), first);
        assert_eq!(hashes(&of(&["10.0.0.1", "2001:db8::1"])), hashes(&second));
        for entry in fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.to_str().unwrap().ends_with(KEY_SUFFIX) {
                fs::write(entry, "not a key").unwrap();
            }
        }
        assert_eq!(of(&["localhost"]).len(), 1);
    }
}
