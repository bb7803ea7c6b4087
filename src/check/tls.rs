//! The certificate: whether browsers would take it, and for how long.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Patient, findings::Findings};

/// With less than this left, whoever renews it should have done so.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
const CHECK: &str = "certificate";

/// What the server showed, and what a client would have said to it.
#[derive(Debug)]
struct Witness {
    verifier: Verifier,
    seen: Mutex<Option<(CertificateDer<'static>, Result<(), Error>)>>,
}

/// Shakes hands with the server, and looks at its certificate. Whether a client would go on.
pub async fn examine(patient: &Patient, findings: &mut Findings) -> anyhow::Result<bool> {
    let provider: Arc<_> = ring::default_provider().into();
    let verifier = Verifier::new_with_extra_roots(patient.options.roots.clone(), provider.clone())?;
    let witness = Arc::new(Witness { verifier, seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(witness.clone()).with_no_client_auth();
    let host = patient.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = patient.url.port_or_known_default().unwrap_or_default();
    let handshake = async {
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        anyhow::Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.clone())?, tcp).await?)
    };
    match timeout(patient.options.timeout, handshake).await {
        Err(_) => {
            let detail = format!("{host}:{port} does not answer within {} s", patient.options.timeout.as_secs());
            findings.failed(CHECK, detail, "is the server running, and is this port of TCP open in every firewall on the way?")?;
            return Ok(false);
        }
        Ok(Err(error)) => {
            findings.failed(CHECK, format!("{host}:{port}: {error}"), why(&error, patient))?;
            return Ok(false);
        }
        Ok(Ok(_)) => {}
    }
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (certificate, verdict) = seen.expect("a handshake shows a certificate");
    judge(&host, &certificate, verdict, findings)
}

/// What to do about a handshake that did not come about.
fn why(error: &anyhow::Error, Patient { url, .. }: &Patient) -> String {
    let cause = error.downcast_ref::<io::Error>();
    let of_tls = cause.and_then(io::Error::get_ref).and_then(|cause| cause.downcast_ref());
    match (of_tls, cause.map(io::Error::kind)) {
        (Some(Error::InvalidMessage(_)), _) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("it speaks no TLS there: is it http://{}{port}, or is tls_cert missing?", url.host_str().unwrap_or_default())
        }
        (None, Some(io::ErrorKind::ConnectionRefused)) => {
            "nobody listens there: is the server running, and is the port the right one?".into()
        }
        (None, Some(_)) => "does this host have an address, and does the network lead there?".into(),
        _ => "is the server running with tls_cert and tls_key, or a proxy with a certificate in front of it?".into(),
    }
}

fn judge(host: &str, certificate: &CertificateDer<'_>, verdict: Result<(), Error>, findings: &mut Findings) -> anyhow::Result<bool> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        findings.failed(CHECK, "it cannot be read", "have it issued anew")?;
        return Ok(false);
    };
    let subject = format!("of {}, issued by {}", names(&parsed), parsed.issuer());
    let until = parsed.validity().not_after;
    let left = UNIX_EPOCH
        .checked_add(Duration::from_secs(until.timestamp().max(0).unsigned_abs()))
        .and_then(|until| until.duration_since(SystemTime::now()).ok());
    let Err(error) = verdict else {
        let days = left.unwrap_or_default().as_secs() / (24 * 3600);
        match left.is_some_and(|left| left > SOON) {
            true => findings.ok(CHECK, format!("{subject}, good for {days} days"))?,
            false => findings.warning(
                CHECK,
                format!("{subject}, good for {days} days more, until {until}"),
                "renew it; the server reads a renewed file by itself",
            )?,
        }
        return Ok(true);
    };
    let Error::InvalidCertificate(cause) = &error else {
        findings.failed(CHECK, format!("{subject}: {error}"), "have it issued anew")?;
        return Ok(false);
    };
    use CertificateError as Cause;
    let (detail, advice) = match cause {
        Cause::Expired | Cause::ExpiredContext { .. } => {
            (format!("{subject}: has run out on {until}"), "renew it; the server reads a renewed file by itself".to_owned())
        }
        Cause::NotValidYet | Cause::NotValidYetContext { .. } => (
            format!("{subject}: is good from {} on", parsed.validity().not_before),
            "is the clock of this machine right, and the certificate the one that you meant?".to_owned(),
        ),
        Cause::NotValidForName | Cause::NotValidForNameContext { .. } => {
            (format!("{subject}: is not for {host}"), format!("have one issued for {host}, or use a name that it is for"))
        }
        Cause::UnknownIssuer => (
            format!("{subject}: nobody whom this machine trusts has issued it"),
            "serve the whole chain in tls_cert, the intermediate certificates too; for an authority of your own say --ca FILE".to_owned(),
        ),
        _ => (format!("{subject}: {error}"), "have it issued anew".to_owned()),
    };
    findings.failed(CHECK, detail, advice)?;
    Ok(false)
}

/// Whom it is for.
fn names(certificate: &X509Certificate<'_>) -> String {
    use x509_parser::extensions::GeneralName;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
                16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.verifier.verify_server_cert(certificate, chain, name, ocsp, now).map(drop);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((certificate.clone().into_owned(), verdict));
        // Nothing is said over this connection.
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
