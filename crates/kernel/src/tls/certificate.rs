//! What a certificate says, for people.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use southbridge_words::WallTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The parts of a certificate that a person asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Whom it is for.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses it is valid for, at most 32 of them.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: WallTime,
    /// Until when it is valid.
    pub not_after: WallTime,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
}

impl CertificateSummary {
    /// Reads a certificate in DER; `None` when it is not one. Its texts are the peer's: escaped and bounded here.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let validity = certificate.validity();
        Some(Self {
            subject: bounded(&certificate.subject().to_string()),
            issuer: bounded(&certificate.issuer().to_string()),
            names: names.filter_map(name).take(NAMES_MAX).collect(),
            not_before: wall(validity.not_before.timestamp()),
            not_after: wall(validity.not_after.timestamp()),
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }
}

impl fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no name".to_owned() } else { self.names.join(", ") };
        let (from, until) = (date(self.not_before), date(self.not_after));
        write!(f, "for {names}; by {}; valid from {from} until {until}", self.issuer)
    }
}

/// A day and a time, as people read them.
pub(super) fn date(time: WallTime) -> String {
    let since = std::time::Duration::from_millis(time.unix_millis()).min(DATE_MAX);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

/// At most [`TEXT_MAX`] characters of what a peer wrote, with nothing in them that a terminal would obey.
pub(super) fn bounded(text: &str) -> String {
    text.chars().flat_map(char::escape_default).take(TEXT_MAX).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(bounded(dns)),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?)),
                _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?)),
            };
            Some(address.to_string())
        }
        _ => None,
    }
}

fn wall(unix_secs: i64) -> WallTime {
    WallTime::from_unix_millis(u64::try_from(unix_secs).unwrap_or(0).saturating_mul(1000))
}

const NAMES_MAX: usize = 32;
const TEXT_MAX: usize = 256;
/// The end of the year 9999, where dates in certificates and in HTTP end.
const DATE_MAX: std::time::Duration = std::time::Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_certificate_is_summed_up() {
        let names = vec!["a.example".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let summary = CertificateSummary::read(certified.cert.der()).unwrap();
        assert_eq!(summary.names, names);
        assert!(summary.self_signed);
        assert!(summary.to_string().starts_with("for a.example, 10.0.0.1, ::1; by CN="), "{summary}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(bounded("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(bounded(&"x".repeat(1000)).len(), 256);
    }

    #[test]
    fn times_past_the_end_of_the_calendar_print() {
        assert!(date(WallTime::from_unix_millis(u64::MAX)).contains("9999"));
    }

    proptest! {
        /// A certificate that was cut or damaged is no reason to panic.
        #[test]
        fn reading_damaged_certificates_never_panics(at in 0_usize..400, with: u8, length in 0_usize..600) {
            let certified = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
            let mut der = certified.cert.der().to_vec();
            let at = at.min(der.len() - 1);
            der[at] = with;
            der.truncate(length);
            let _ = CertificateSummary::read(&der);
        }
    }
}
