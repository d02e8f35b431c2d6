//! Whom we trust: the system's certificate authorities, and those of the configuration.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::warn;

/// Why TLS cannot be set up. Each says which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read.
    #[error("tls.ca_files: {} cannot be read; check the path and its permissions", .file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file without a certificate in it.
    #[error(
        "tls.ca_files: {} holds no certificate; it must be PEM, with \"-----BEGIN CERTIFICATE-----\" in it",
        .file.display()
    )]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A certificate that cannot be understood.
    #[error("tls.ca_files: certificate {number} of {} is not usable: {reason}", .file.display())]
    BadCertificate {
        /// Which file.
        file: PathBuf,
        /// Which certificate in it, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// Nobody would be trusted.
    #[error(
        "no certificate authority is trusted: install the system's (package ca-certificates), or name some with \
         tls.ca_files"
    )]
    NoRoots,
    /// The legacy profile needs authorities with their whole certificates; those built in have none.
    #[error(
        "the legacy TLS profile finds no certificate authority: install the system's (package ca-certificates), or \
         name some with tls.ca_files"
    )]
    NoRootsForLegacy,
    /// Built without the feature `legacy-tls`.
    #[error("a host has tls = \"legacy\", and this build was made without the legacy TLS profile")]
    NoLegacy,
    /// The TLS library refused its configuration.
    #[error("TLS cannot be set up: {reason}")]
    Setup {
        /// What it said.
        reason: String,
    },
}

/// The certificate authorities that are trusted.
pub(super) struct Roots {
    /// As the modern profile reads them.
    pub(super) anchors: RootCertStore,
    /// As they came. Mozilla's, where they stand in for the system's, exist as anchors only.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Loads the system's roots, if they are to be trusted, and those of `ca_files`.
    pub(super) fn load(ca_files: &[PathBuf], use_system_roots: bool) -> Result<Self, TlsConfigError> {
        let mut roots = Self { anchors: RootCertStore::empty(), certificates: Vec::new() };
        if use_system_roots {
            roots.add_system(rustls_native_certs::load_native_certs().certs);
        }
        for file in ca_files {
            roots.add_file(file)?;
        }
        if roots.anchors.is_empty() { Err(TlsConfigError::NoRoots) } else { Ok(roots) }
    }

    fn add_system(&mut self, certificates: Vec<CertificateDer<'static>>) {
        let (good, _ignored) = self.anchors.add_parsable_certificates(certificates.iter().cloned());
        if good == 0 {
            warn!(
                "the system has no certificate authorities; those of Mozilla, as built in, are trusted instead"
            );
            self.anchors.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return;
        }
        self.certificates = certificates;
    }

    fn add_file(&mut self, file: &Path) -> Result<(), TlsConfigError> {
        let pem = std::fs::read(file)
            .map_err(|source| TlsConfigError::Unreadable { file: file.to_owned(), source })?;
        let mut number = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            number += 1;
            let bad =
                |reason: String| TlsConfigError::BadCertificate { file: file.to_owned(), number, reason };
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            self.anchors.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
            self.certificates.push(certificate);
        }
        if number == 0 { Err(TlsConfigError::NoCertificate { file: file.to_owned() }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn refusal(text: &str) -> String {
        let file = file(text);
        let error = Roots::load(&[file.path().to_owned()], false).err().expect(text);
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
        error.to_string()
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Roots::load(&["/nowhere/ca.pem".into()], false).err().unwrap();
        assert_eq!(
            error.to_string(),
            "tls.ca_files: /nowhere/ca.pem cannot be read; check the path and its permissions"
        );
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        assert!(refusal("").contains("holds no certificate"));
        assert!(refusal("hello\n").contains("holds no certificate"));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(refusal(key).contains("holds no certificate"));
    }

    #[test]
    fn a_broken_certificate_is_refused() {
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refusal(text).contains("certificate 1 of"));
        let text = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(refusal(text).contains("is not usable"));
    }

    #[test]
    fn trusting_nobody_is_an_error() {
        assert!(matches!(Roots::load(&[], false), Err(TlsConfigError::NoRoots)));
    }

    /// A container image without ca-certificates must still be able to federate.
    #[test]
    fn a_system_without_roots_falls_back_to_those_built_in() {
        let mut roots = Roots { anchors: RootCertStore::empty(), certificates: Vec::new() };
        roots.add_system(Vec::new());
        assert!(roots.anchors.len() > 50);
        assert!(roots.certificates.is_empty());
    }
}
