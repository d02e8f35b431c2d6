//! Handshake errors that say what happened, what the peer offered, and which setting would help (K22).

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
use rustls_pki_types::UnixTime;
use southbridge_words::{CertificateName, WallTime};

use super::CertificateSummary;
use super::certificate::{bounded, date};

/// A certificate that was refused, and why.
#[derive(Debug)]
pub(super) struct Rejected {
    /// What the verifier said.
    pub(super) cause: rustls::Error,
    /// The certificate, where it can be read.
    pub(super) certificate: Option<CertificateSummary>,
    /// How many certificates the peer sent.
    pub(super) chain_length: usize,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for Rejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// A sentence for a handshake with `name` that ended in `error`.
pub(super) fn explain(error: &io::Error, name: &CertificateName) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return explain_io(error);
    };
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Rejected>() {
                Some(rejected) => explain_rejected(rejected, name),
                None => bounded(&other.to_string()),
            }
        }
        rustls::Error::AlertReceived(alert) => explain_alert(*alert, name),
        rustls::Error::PeerIncompatible(what) => explain_incompatible(what, name),
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "what answers there does not speak TLS; is it plain HTTP, or another port?".to_owned(),
        rustls::Error::InvalidMessage(
            InvalidMessage::CertificatePayloadTooLarge
            | InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::MessageTooLarge,
        ) => "the peer's certificates take more than 64 KiB, which is more than anybody needs".to_owned(),
        rustls::Error::NoCertificatesPresented => "the peer showed no certificate".to_owned(),
        rustls::Error::PeerMisbehaved(how) => format!("the peer broke the TLS protocol: {how:?}"),
        other => bounded(&other.to_string()),
    }
}

/// The connection ended, and TLS had no say in it.
pub(super) fn explain_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the peer hung up in the middle of the handshake".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the peer reset the connection in the middle of the handshake".to_owned()
        }
        _ => crate::net::describe(error),
    }
}

/// The hint for peers that are too old, with the setting that would help.
pub(super) fn legacy_hint(name: &CertificateName) -> String {
    format!("[host.\"{name}\"] tls = \"legacy\" talks to it")
}

/// The certificate was issued for other names.
pub(super) fn wrong_name(name: &CertificateName, names: &[String]) -> String {
    if names.is_empty() {
        return format!("the certificate is not valid for {name}, nor for any other name");
    }
    format!("the certificate is not valid for {name}, only for {}", names.join(", "))
}

/// The certificate leads to nobody we trust.
pub(super) fn unknown_issuer(certificate: Option<&CertificateSummary>, chain_length: usize) -> String {
    match certificate {
        Some(certificate) if certificate.self_signed => format!(
            "the certificate of {} is self-signed; if it is meant to be trusted, add it with tls.ca_files",
            certificate.subject
        ),
        Some(certificate) => {
            let missing = if chain_length == 1 {
                " (the peer sent no intermediate certificate, perhaps by mistake)"
            } else {
                ""
            };
            format!(
                "the certificate was issued by {}, whom nobody we trust vouches for{missing}; add its CA with \
                 tls.ca_files",
                certificate.issuer
            )
        }
        None => "the certificate was issued by somebody unknown; add its CA with tls.ca_files".to_owned(),
    }
}

/// The certificate's time is over.
pub(super) fn expired(not_after: WallTime) -> String {
    format!("the certificate expired on {}; the peer must renew it", date(not_after))
}

/// The certificate's time is still to come.
pub(super) fn not_yet(not_before: WallTime) -> String {
    format!("the certificate is not valid before {}; is a clock wrong?", date(not_before))
}

fn explain_rejected(rejected: &Rejected, name: &CertificateName) -> String {
    let rustls::Error::InvalidCertificate(cause) = &rejected.cause else {
        return bounded(&rejected.cause.to_string());
    };
    let certificate = rejected.certificate.as_ref();
    match cause {
        CertificateError::ExpiredContext { not_after, .. } => expired(wall(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => not_yet(wall(*not_before)),
        CertificateError::Expired => "the certificate has expired; the peer must renew it".to_owned(),
        CertificateError::NotValidYet => "the certificate is not valid yet; is a clock wrong?".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            wrong_name(name, certificate.map_or(&[], |certificate| &certificate.names))
        }
        CertificateError::UnknownIssuer => unknown_issuer(certificate, rejected.chain_length),
        CertificateError::BadEncoding => "the certificate cannot be read".to_owned(),
        CertificateError::BadSignature => "the certificate's signature is wrong".to_owned(),
        CertificateError::Revoked => "the certificate has been revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not meant for servers".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("the certificate is signed in a way that is no longer safe; {}", legacy_hint(name))
        }
        // Self-signed in the manner of `openssl req -x509`: an authority shown as if it were a server.
        CertificateError::Other(_) if certificate.is_some_and(|certificate| certificate.self_signed) => {
            unknown_issuer(certificate, rejected.chain_length)
        }
        other => format!("the certificate is refused: {}", bounded(&other.to_string())),
    }
}

fn explain_alert(alert: AlertDescription, name: &CertificateName) -> String {
    match alert {
        AlertDescription::ProtocolVersion => {
            format!("the peer offers only TLS 1.0 or 1.1: {}", legacy_hint(name))
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => format!(
            "the peer shares no TLS version or cipher with us (its alert: {}); if it is an old server, {}",
            alert_name(alert),
            legacy_hint(name)
        ),
        AlertDescription::UnrecognisedName => {
            format!("the peer does not know the name {name} (its alert: {})", alert_name(alert))
        }
        AlertDescription::CertificateRequired => {
            "the peer wants a client certificate, and we have none".to_owned()
        }
        AlertDescription::NoApplicationProtocol => {
            "the peer speaks neither HTTP/2 nor HTTP/1.1 there (its alert: no application protocol)"
                .to_owned()
        }
        other => format!("the peer refused the handshake (its alert: {})", alert_name(other)),
    }
}

fn explain_incompatible(what: &PeerIncompatible, name: &CertificateName) -> String {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            format!("the peer offers only TLS 1.0 or 1.1: {}", legacy_hint(name))
        }
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoEcPointFormatsInCommon => {
            format!("the peer shares no cipher with us ({what:?}): {}", legacy_hint(name))
        }
        other => format!("the peer's TLS does not go with ours ({other:?}): {}", legacy_hint(name)),
    }
}

/// `HandshakeFailure` as `handshake failure`.
fn alert_name(alert: AlertDescription) -> String {
    let mut words = String::new();
    for (at, letter) in format!("{alert:?}").char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn wall(time: UnixTime) -> WallTime {
    WallTime::from_unix_millis(time.as_secs().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> CertificateName {
        CertificateName::Dns("old.example".into())
    }

    fn explained(error: rustls::Error) -> String {
        explain(&io::Error::new(io::ErrorKind::InvalidData, error), &name())
    }

    #[test]
    fn an_old_peer_is_met_with_the_setting_that_helps() {
        let setting = "[host.\"old.example\"] tls = \"legacy\"";
        for error in [
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure),
            PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
            PeerIncompatible::NoCipherSuitesInCommon.into(),
        ] {
            let text = explained(error);
            assert!(text.contains(setting), "{text}");
        }
    }

    #[test]
    fn alerts_are_spelt_out() {
        let text = explained(rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
        assert_eq!(text, "the peer refused the handshake (its alert: bad record mac)");
    }

    #[test]
    fn a_broken_connection_is_not_blamed_on_tls() {
        let text = explain(&io::Error::from(io::ErrorKind::ConnectionReset), &name());
        assert_eq!(text, "the peer reset the connection in the middle of the handshake");
    }
}
