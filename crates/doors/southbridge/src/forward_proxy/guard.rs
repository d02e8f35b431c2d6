//! Who may use the forward proxy.
//!
//! # Source
//! RFC 9110 §11.7 (proxy authentication), RFC 7617 (Basic); fault 29 (not an open proxy).

use southbridge_kernel::net::ListenAddress;
use southbridge_words::Secret;

use crate::local_http::{Credentials, Denied, same_secret};

/// What callers must show. Without any of it, everyone who can reach the listener is let in, and
/// [`Guard::check_listener`] allows only listeners that nobody outside this machine can reach.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    basic: Option<Secret>,
    bearer: Option<Secret>,
}

/// Why a listener must not be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the forward proxy listens at {address}, which other machines can reach, and asks for no credentials; \
     set a user and a password, or listen on 127.0.0.1, [::1] or a unix socket"
)]
pub struct OpenProxy {
    /// Where it listens.
    pub address: ListenAddress,
}

impl Guard {
    /// Lets in who shows `user` and `password` (in a proxy URL: `http://user:password@host`).
    #[must_use]
    pub fn with_basic(mut self, user: &str, password: &Secret) -> Self {
        // Compared as it is shown, so that nothing has to be decoded before it is trusted.
        let pair = [user.as_bytes(), b":", password.expose()].concat();
        self.basic = Some(Secret::new(base64(&pair).into_bytes()));
        self
    }

    /// Lets in who shows `token` as a bearer.
    #[must_use]
    pub fn with_bearer(mut self, token: Secret) -> Self {
        self.bearer = Some(token);
        self
    }

    /// Whether anything has to be shown at all.
    pub fn asks(&self) -> bool {
        self.basic.is_some() || self.bearer.is_some()
    }

    /// Whether `address` may be served with this guard.
    ///
    /// # Errors
    /// [`OpenProxy`] when it would be a proxy for the whole network.
    pub fn check_listener(&self, address: &ListenAddress) -> Result<(), OpenProxy> {
        match address {
            ListenAddress::Tcp(tcp) if !tcp.ip().is_loopback() && !self.asks() => {
                Err(OpenProxy { address: address.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Lets a caller in, or not.
    ///
    /// # Errors
    /// [`Denied`] says which of the two ways of not being let in this is.
    pub fn check(&self, credentials: &Credentials) -> Result<(), Denied> {
        if !self.asks() {
            return Ok(());
        }
        let shows = |scheme, secret: &Option<Secret>| match (credentials.token(scheme), secret) {
            (Ok(token), Some(secret)) => same_secret(secret.expose(), token),
            _ => false,
        };
        if shows("Basic", &self.basic) || shows("Bearer", &self.bearer) {
            return Ok(());
        }
        Err(if *credentials == Credentials::Missing { Denied::Missing } else { Denied::Wrong })
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;

    use super::*;

    fn guard() -> Guard {
        Guard::default().with_basic("synapse", &Secret::new(*b"sesame:1"))
    }

    fn shown(line: &str) -> Credentials {
        Credentials::One(HeaderValue::from_str(line).unwrap())
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), coded);
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn only_the_right_user_and_password_are_let_in() {
        let right = format!("Basic {}", base64(b"synapse:sesame:1"));
        assert_eq!(guard().check(&shown(&right)), Ok(()));
        assert_eq!(guard().check(&shown(&right.replace("Basic", "bAsIc"))), Ok(()));
        assert_eq!(guard().check(&Credentials::Missing), Err(Denied::Missing));
        for wrong in
            ["Basic", "Basic ", "Basic c3luYXBzZTo=", "Bearer sesame:1", &right.replace("Basic", "Bearer")]
        {
            assert_eq!(guard().check(&shown(wrong)), Err(Denied::Wrong), "{wrong}");
        }
        assert_eq!(guard().check(&Credentials::Several), Err(Denied::Wrong));
    }

    #[test]
    fn a_bearer_is_another_way_in() {
        let guard = guard().with_bearer(Secret::new(*b"token"));
        assert_eq!(guard.check(&shown("Bearer token")), Ok(()));
        assert_eq!(guard.check(&shown("Bearer tokem")), Err(Denied::Wrong));
    }

    /// A proxy that asks for nothing must not be within reach of the network.
    #[test]
    fn an_open_proxy_is_not_served_to_the_network() {
        let open = |address: &str| {
            Guard::default().check_listener(&ListenAddress::parse(address, Path::new("/")).unwrap()).is_ok()
        };
        assert!(open("127.0.0.1:9102") && open("[::1]:9102") && open("unix:proxy.sock"));
        assert!(!open("0.0.0.0:9102") && !open("[::]:9102") && !open("192.0.2.1:9102"));
        assert!(
            guard().check_listener(&ListenAddress::parse("0.0.0.0:9102", Path::new("/")).unwrap()).is_ok()
        );
        assert_eq!(Guard::default().check(&Credentials::Missing), Ok(()));
    }
}
