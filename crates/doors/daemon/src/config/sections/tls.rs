//! `[tls]`: whom to trust.

use std::path::Path;

use southbridge_kernel::tls::TlsConfig;

use crate::config::key::{Key, Kind, Section, count, key};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> TlsConfig {
    let ca_files = reader.paths("ca_files");
    for path in &ca_files {
        if let Err(reason) = check_certificates(path) {
            reader.refuse("ca_files", &reason);
        }
    }
    let use_system_roots = reader.flag("system_roots");
    if !use_system_roots && ca_files.is_empty() {
        reader.refuse(
            "system_roots",
            "is false and ca_files is empty, so no certificate could ever be trusted",
        );
    }
    TlsConfig {
        ca_files,
        use_system_roots,
        sessions_max: reader.count32("sessions_max") as usize,
        // Whether any host asks for it is known when all tables are read.
        ..TlsConfig::default()
    }
}

/// Whether there are certificates at `path`.
fn check_certificates(path: &Path) -> Result<(), String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("CA file {shown} cannot be read: {}", reason(&error)))?;
    let mut found = 0;
    for certificate in certificates {
        certificate.map_err(|error| format!("CA file {shown} is not PEM: {}", reason(&error)))?;
        found += 1;
    }
    if found == 0 {
        return Err(format!(
            "CA file {shown} has no certificate in it; expected PEM (`-----BEGIN CERTIFICATE-----`)"
        ));
    }
    Ok(())
}

fn reason(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The keys of `[tls]`.
pub const SECTION: Section = Section {
    name: "tls",
    about: "TLS with other homeservers: whom to trust, and for how long to wait.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "ca_files",
        Kind::Paths,
        "[]",
        "Files with certificates (PEM) that are trusted in addition to the system's.",
    ),
    key(
        "system_roots",
        Kind::Flag,
        "true",
        "Whether the system's certificates are trusted. False in a federation that has its own authority only.",
    ),
    key(
        "sessions_max",
        count(0, 1_000_000),
        "1024",
        "For how many hosts a TLS session is remembered, so that meeting again costs half. 2 to 4 KiB each.",
    ),
];
