//! TLS for our own listeners.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate and key of a listener, ready to accept.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

/// Why a listener cannot have TLS. Each says which file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerTlsError {
    /// A file cannot be read.
    #[error("{} cannot be read; check the path and its permissions", .file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in the file for them.
    #[error("{} holds no certificate; it must be PEM, the server's own certificate first", .file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// There is no key in the file for it.
    #[error("{} holds no private key; it must be PEM, and not encrypted", .file.display())]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// The two do not go together, or cannot be used.
    #[error("the certificate in {} and the key in {} cannot be used: {reason}", .certificate_file.display(), .key_file.display())]
    Mismatch {
        /// Where the certificate is.
        certificate_file: PathBuf,
        /// Where the key is.
        key_file: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
}

impl ServerTls {
    /// Reads a certificate chain and its key, both PEM. The door within speaks HTTP/1.1.
    ///
    /// # Errors
    /// [`ServerTlsError`] names the file.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, ServerTlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate_file)?)
            .collect::<Result<_, _>>()
            .map_err(|_| ServerTlsError::NoCertificate { file: certificate_file.to_owned() })?;
        if chain.is_empty() {
            return Err(ServerTlsError::NoCertificate { file: certificate_file.to_owned() });
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
            .map_err(|_| ServerTlsError::NoKey { file: key_file.to_owned() })?;
        let mismatch = |reason: rustls::Error| ServerTlsError::Mismatch {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            reason: reason.to_string(),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: Arc::new(config).into() })
    }

    /// What accepts.
    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ServerTlsError> {
    std::fs::read(file).map_err(|source| ServerTlsError::Unreadable { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Files {
        _dir: TempDir,
        certificate: PathBuf,
        key: PathBuf,
        other_key: PathBuf,
        empty: PathBuf,
    }

    fn files() -> Files {
        let dir = TempDir::new().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        Files {
            certificate: write("cert.pem", one.cert.pem()),
            key: write("key.pem", one.signing_key.serialize_pem()),
            other_key: write("other.pem", two.signing_key.serialize_pem()),
            empty: write("empty.pem", String::new()),
            _dir: dir,
        }
    }

    #[test]
    fn a_certificate_and_its_key_are_loaded() {
        let files = files();
        assert!(ServerTls::load(&files.certificate, &files.key).is_ok());
    }

    #[test]
    fn bad_files_are_named() {
        let files = files();
        let missing = PathBuf::from("/nowhere/x.pem");
        let cases = [
            (&missing, &files.key, &missing, "cannot be read"),
            (&files.certificate, &missing, &missing, "cannot be read"),
            (&files.empty, &files.key, &files.empty, "holds no certificate"),
            (&files.key, &files.key, &files.key, "holds no certificate"),
            (&files.certificate, &files.empty, &files.empty, "holds no private key"),
            (&files.certificate, &files.other_key, &files.other_key, "cannot be used"),
        ];
        for (certificate, key, named, reason) in cases {
            let error = ServerTls::load(certificate, key).unwrap_err().to_string();
            assert!(error.contains(&named.display().to_string()) && error.contains(reason), "{error}");
        }
    }
}
