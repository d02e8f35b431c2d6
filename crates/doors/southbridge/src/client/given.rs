//! A cookie that the program itself gives to a client: read strictly, and kept as if its own domain had set it.
//!
//! # Units
//! Seconds since 1970.
//!
//! # Source
//! RFC 6265 §4.1.1, §5.4; what programs know of `requests` and `httpx`.

use std::time::{Duration, UNIX_EPOCH};

use cookie_store::{Cookie, CookieExpiration, RawCookie};
use url::Url;

use super::cookies::{CookieRefused, CookieView};

/// A cookie that the program gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenCookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The host it is for; with a dot before it, the names below it as well.
    pub domain: String,
    /// The path it is for, and all below.
    pub path: String,
    /// Until when it is good; `None` for as long as the client lives.
    pub expires: Option<u64>,
    /// Whether it is for https only.
    pub secure: bool,
    /// Whether scripts of a browser may not see it. Nothing follows from it here; it is kept.
    pub http_only: bool,
}

impl GivenCookie {
    /// As a jar keeps it, and from where it would have come.
    ///
    /// # Errors
    /// [`CookieRefused`] says what no cookie has.
    pub(super) fn read(&self) -> Result<(Cookie<'static>, Url), CookieRefused> {
        let malformed = |reason: String| CookieRefused::Malformed { reason };
        if !is_pair(&self.name, &self.value) {
            return Err(malformed(format!("{:?} has in it what no cookie has", self.name)));
        }
        if !self.path.starts_with('/') || self.path.contains(is_forbidden) {
            return Err(malformed(format!("{:?} is no path: it begins with a slash", self.path)));
        }
        let (host, is_wide) = match self.domain.strip_prefix('.') {
            Some(host) => (host, true),
            None => (self.domain.as_str(), false),
        };
        let no_host = || malformed(format!("{:?} is no domain", self.domain));
        if host.is_empty() || host.contains(['/', '?', '#', '@', '\\']) || host.contains(char::is_whitespace)
        {
            return Err(no_host());
        }
        let from = Url::parse(&format!("https://{host}/")).map_err(|_| no_host())?;
        let host = from.host_str().filter(|_| from.port().is_none()).ok_or_else(no_host)?.to_owned();
        let mut raw = RawCookie::new(self.name.clone(), self.value.clone());
        raw.set_path(self.path.clone());
        raw.set_secure(self.secure);
        raw.set_http_only(self.http_only);
        if is_wide {
            raw.set_domain(host);
        }
        let mut cookie =
            Cookie::try_from_raw_cookie(&raw, &from).map_err(|error| malformed(error.to_string()))?;
        if let Some(expires) = self.expires {
            let at = UNIX_EPOCH + Duration::from_secs(expires.min(EXPIRES_MAX));
            cookie.expires = CookieExpiration::AtUtc(at.into());
        }
        Ok((cookie.into_owned(), from))
    }

    /// How long it is, as a line.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + self.domain.len() + self.path.len()
    }
}

impl From<CookieView> for GivenCookie {
    fn from(view: CookieView) -> Self {
        let CookieView { name, value, domain, path, secure, http_only, expires } = view;
        Self { name, value, domain, path, expires, secure, http_only }
    }
}

/// Whether these can be sent as one cookie, and as no more than one.
pub(super) fn is_pair(name: &str, value: &str) -> bool {
    let bad = |text: &str| text.contains(is_forbidden) || text.trim() != text;
    !name.is_empty() && !bad(name) && !name.contains('=') && !bad(value)
}

fn is_forbidden(letter: char) -> bool {
    letter.is_control() || letter == ';'
}

/// The end of the year 9999, the last that a date of HTTP can tell.
const EXPIRES_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::super::cookies::Jar;
    use super::*;

    fn given(name: &str, value: &str, domain: &str) -> GivenCookie {
        GivenCookie {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: domain.to_owned(),
            path: "/".to_owned(),
            expires: None,
            secure: false,
            http_only: false,
        }
    }

    fn sent(jar: &Jar, to: &str) -> String {
        let header = jar.header(&Url::parse(to).unwrap(), &[], &[]);
        header.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_a_program_gives_is_sent_where_it_says() {
        let mut jar = Jar::default();
        jar.give(&given("a", "1", "a.test")).unwrap();
        jar.give(&given("b", "2", ".a.test")).unwrap();
        jar.give(&GivenCookie { secure: true, path: "/x".to_owned(), ..given("c", "3", "a.test") }).unwrap();
        jar.give(&given("d", "4", "192.0.2.1")).unwrap();
        jar.give(&given("e", "5", "[2001:db8::1]")).unwrap();
        assert_eq!(sent(&jar, "http://a.test/x"), "a=1; b=2");
        assert_eq!(sent(&jar, "https://a.test/x/y"), "c=3; a=1; b=2");
        assert_eq!(sent(&jar, "http://www.a.test/"), "b=2");
        assert_eq!(sent(&jar, "http://192.0.2.1/"), "d=4");
        assert_eq!(sent(&jar, "http://[2001:db8::1]/"), "e=5");
        assert_eq!(sent(&jar, "http://b.test/"), "");
    }

    /// What one jar shows, another takes: no cookie is lost or widened on the way.
    #[test]
    fn a_jar_can_be_told_to_another() {
        let mut jar = Jar::default();
        let from = Url::parse("https://www.a.test/x/").unwrap();
        for line in
            ["a=1", "b=2; Domain=a.test; Path=/; Max-Age=3600", "c=\"3\"; Secure; HttpOnly; Path=/y", "d="]
        {
            jar.set(line.as_bytes(), &from).unwrap();
        }
        let mut other = Jar::default();
        for view in jar.views() {
            other.give(&view.into()).unwrap();
        }
        let sorted = |jar: &Jar| {
            let mut views = jar.views();
            views.sort_by(|one, other| one.name.cmp(&other.name));
            views
        };
        assert_eq!(sorted(&jar), sorted(&other));
        assert_eq!(sorted(&other).len(), 4);
        assert_eq!(sent(&jar, "https://www.a.test/y"), sent(&other, "https://www.a.test/y"));
    }

    #[test]
    fn what_is_no_cookie_is_refused() {
        let cases = [
            given("", "1", "a.test"),
            given("a;b", "1", "a.test"),
            given("a=b", "1", "a.test"),
            given("a", "1; b=2", "a.test"),
            given("a", "1\r\nEvil: 1", "a.test"),
            given("a", " 1", "a.test"),
            given("a", "1", ""),
            given("a", "1", "."),
            given("a", "1", "a.test/x"),
            given("a", "1", "a.test:81"),
            given("a", "1", "user@a.test"),
            given("a", "1", "a b"),
            given("__Host-a", "1", "a.test"),
            given("__Secure-a", "1", "a.test"),
            GivenCookie { path: "x".to_owned(), ..given("a", "1", "a.test") },
            GivenCookie { path: "/;".to_owned(), ..given("a", "1", "a.test") },
            given("a", &"x".repeat(9000), "a.test"),
        ];
        for case in cases {
            assert!(Jar::default().give(&case).is_err(), "{case:?}");
        }
        let mut jar = Jar::default();
        jar.give(&given("a", "1", ".co.uk")).unwrap();
        assert_eq!(sent(&jar, "http://co.uk/"), "a=1");
        assert_eq!(sent(&jar, "http://b.co.uk/"), "", "strangers live there");
    }

    #[test]
    fn what_is_past_its_time_is_not_kept() {
        let mut jar = Jar::default();
        jar.give(&GivenCookie { expires: Some(1), ..given("a", "1", "a.test") }).unwrap();
        assert!(jar.views().is_empty());
        jar.give(&GivenCookie { expires: Some(u64::MAX), ..given("a", "1", "a.test") }).unwrap();
        assert_eq!(jar.views()[0].expires, Some(EXPIRES_MAX));
        jar.give(&GivenCookie { expires: Some(1), ..given("a", "1", "a.test") }).unwrap();
        assert!(jar.views().is_empty());
    }
}
