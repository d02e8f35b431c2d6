//! Authorities as they stand in URLs.

use std::net::IpAddr;

use southbridge_words::CertificateName;

use super::DiscoveryError;

/// Takes `host[:port]` apart.
///
/// # Errors
/// [`DiscoveryError::BadName`] when there is no host or the port is not one.
pub fn split_authority(authority: &str, default_port: u16) -> Result<(&str, u16), DiscoveryError> {
    let bad =
        |reason: &str| DiscoveryError::BadName { name: authority.to_owned(), reason: reason.to_owned() };
    let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    let port = match port {
        None => default_port,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad("its port is not 1 to 65535"))?
        }
        Some(_) => return Err(bad("its port is not a number")),
    };
    if host.is_empty() || host.contains('@') || host.contains('/') {
        return Err(bad("its host is not one"));
    }
    Ok((host, port))
}

/// The certificate name for a host as it stands in a URL: an address, or a DNS name in lower case.
pub fn certificate_name(host: &str) -> CertificateName {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => CertificateName::Ip(address),
        Err(_) => CertificateName::Dns(host.to_ascii_lowercase().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        let good = [
            ("a.example", ("a.example", 443)),
            ("a.example:80", ("a.example", 80)),
            ("[::1]:1", ("[::1]", 1)),
        ];
        for (text, parts) in good {
            assert_eq!(split_authority(text, 443).ok(), Some(parts), "{text}");
        }
        for text in ["", ":80", "a:0", "a:65536", "a:+1", "u@a", "a/b"] {
            assert!(split_authority(text, 443).is_err(), "{text}");
        }
    }
}
