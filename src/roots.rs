//! Certificate authorities that are named on the command line.

use std::path::Path;

use anyhow::{anyhow, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// Those of a PEM file that `--ca` names.
pub fn read(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let roots = read.map_err(|error| anyhow!("--ca {}: {error}", file.display()))?;
    ensure!(!roots.is_empty(), "--ca {}: there is no certificate in it", file.display());
    Ok(roots)
}
