//! Whether a caller may come in.

use http::HeaderValue;
use subtle::ConstantTimeEq;

use super::head::Credentials;

/// Why a caller is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown.
    #[error("Proxy-Authorization is missing")]
    Missing,
    /// What was shown is not what was agreed on, or could be read in two ways.
    #[error("Proxy-Authorization does not hold the right secret")]
    Wrong,
}

impl Denied {
    /// The Matrix error code that Synapse's own proxy uses for it.
    pub fn errcode(self) -> &'static str {
        match self {
            Self::Missing => "M_MISSING_TOKEN",
            Self::Wrong => "M_UNAUTHORIZED",
        }
    }
}

/// Whether two secrets are the same, in a time that says nothing of where they differ.
///
/// The length is not hidden. An empty secret is like no other, itself included.
pub fn same_secret(ours: &[u8], theirs: &[u8]) -> bool {
    !ours.is_empty() && bool::from(ours.ct_eq(theirs))
}

impl Credentials {
    /// The token of the one line there is, when its scheme is `scheme` (RFC 9110 §11.4: in any case).
    ///
    /// # Errors
    /// [`Denied`] when there is no line, or several, or another scheme.
    pub fn token(&self, scheme: &str) -> Result<&[u8], Denied> {
        let line = match self {
            Self::Missing => return Err(Denied::Missing),
            Self::Several => return Err(Denied::Wrong),
            Self::One(line) => HeaderValue::as_bytes(line),
        };
        let (name, rest) = line.split_at_checked(scheme.len()).ok_or(Denied::Wrong)?;
        let token = rest.strip_prefix(b" ").ok_or(Denied::Wrong)?.trim_ascii();
        if name.eq_ignore_ascii_case(scheme.as_bytes()) { Ok(token) } else { Err(Denied::Wrong) }
    }

    /// Lets in whoever shows `Bearer` with `secret`.
    ///
    /// # Errors
    /// [`Denied`] says which of the two ways of not having it this is.
    pub fn check_bearer(&self, secret: &[u8]) -> Result<(), Denied> {
        if same_secret(secret, self.token("Bearer")?) { Ok(()) } else { Err(Denied::Wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &'static str) -> Credentials {
        Credentials::One(HeaderValue::from_static(line))
    }

    #[test]
    fn only_the_whole_secret_in_the_right_scheme_lets_one_in() {
        let cases: &[(Credentials, Result<(), Denied>)] = &[
            (Credentials::Missing, Err(Denied::Missing)),
            (Credentials::Several, Err(Denied::Wrong)),
            (shown("Bearer sesame"), Ok(())),
            (shown("bearer  sesame"), Ok(())),
            (shown("Bearer sesam"), Err(Denied::Wrong)),
            (shown("Bearer sesame1"), Err(Denied::Wrong)),
            (shown("Bearer SESAME"), Err(Denied::Wrong)),
            (shown("Bearer"), Err(Denied::Wrong)),
            (shown("Bearer "), Err(Denied::Wrong)),
            (shown("Bearersesame"), Err(Denied::Wrong)),
            (shown("Basic sesame"), Err(Denied::Wrong)),
            (shown("sesame"), Err(Denied::Wrong)),
            (shown(""), Err(Denied::Wrong)),
        ];
        for (credentials, expected) in cases {
            assert_eq!(credentials.check_bearer(b"sesame"), *expected, "{credentials:?}");
        }
    }

    /// A forgotten secret must not become a secret that everybody knows.
    #[test]
    fn an_empty_secret_lets_nobody_in() {
        assert_eq!(shown("Bearer ").check_bearer(b""), Err(Denied::Wrong));
    }
}
