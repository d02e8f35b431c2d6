//! The cookies of one client, bounded.
//!
//! The rules of RFC 6265 are a crate's (`cookie_store`); what is here are the bounds, the public suffixes, and what
//! browsers have added since: a Secure cookie comes over https only, and the prefixes `__Secure-` and `__Host-` mean
//! what they say.
//!
//! # Units
//! Bytes of a whole `Set-Cookie` line; cookies.
//!
//! # Source
//! RFC 6265 §5 (with its minimum bounds in §6.1), draft RFC 6265bis §5; the Public Suffix List, as built into `psl`.

use cookie_store::{Cookie, CookieDomain, CookieExpiration, CookieStore};
use http::{HeaderMap, HeaderValue, header};
use url::{Host, Url};

use super::given::GivenCookie;

/// The cookies of one client.
#[derive(Debug, Default)]
pub struct Jar {
    store: CookieStore,
    /// Entries of the store, expired ones included; never fewer than there are.
    count: usize,
}

/// One cookie, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The domain it is for; with a dot before it where names below it are meant as well.
    pub domain: String,
    /// The path it is for.
    pub path: String,
    /// Whether it is for https only.
    pub secure: bool,
    /// Whether scripts of a browser may not see it.
    pub http_only: bool,
    /// Until when it is good, in seconds since 1970; `None` for as long as the client lives.
    pub expires: Option<u64>,
}

/// Which cookies are meant: those for which all that is said is so.
#[derive(Clone, Debug, Default)]
pub struct WhichCookies {
    /// Called so.
    pub name: Option<String>,
    /// For this domain, with a dot before it or without.
    pub domain: Option<String>,
    /// For this path.
    pub path: Option<String>,
}

/// Why a cookie is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieRefused {
    /// Longer than any is taken.
    #[error("the cookie has {bytes} bytes, the most is {COOKIE_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not one.
    #[error("it is not a cookie: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It claims what the one who set it may not give.
    #[error("the cookie may not be set from there: {reason}")]
    NotAllowed {
        /// Which rule is against it.
        reason: &'static str,
    },
    /// The jar is full.
    #[error("the jar holds {COOKIES_MAX} cookies, or {DOMAIN_COOKIES_MAX} for that domain")]
    Full,
}

impl Jar {
    /// Whether nothing was ever kept.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes up what the response from `url` sets. What must not be kept is left out.
    pub fn take_up(&mut self, headers: &HeaderMap, url: &Url) {
        for line in headers.get_all(header::SET_COOKIE).iter().take(LINES_MAX) {
            if let Err(refused) = self.set(line.as_bytes(), url) {
                tracing::debug!(host = url.host_str(), %refused, "cookie not kept");
            }
        }
    }

    /// Takes up one `Set-Cookie` line.
    ///
    /// # Errors
    /// [`CookieRefused`] says why it is not kept.
    pub fn set(&mut self, line: &[u8], url: &Url) -> Result<(), CookieRefused> {
        if line.len() > COOKIE_BYTES_MAX {
            return Err(CookieRefused::TooLong { bytes: line.len() });
        }
        let malformed = |reason: String| CookieRefused::Malformed { reason };
        let text = std::str::from_utf8(line).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(malformed("it has control characters".to_owned()));
        }
        let cookie = Cookie::parse(text, url).map_err(|error| malformed(error.to_string()))?.into_owned();
        self.keep(cookie, url)
    }

    /// Takes up a cookie that the program gives.
    ///
    /// # Errors
    /// [`CookieRefused`] says why it is not kept.
    pub fn give(&mut self, given: &GivenCookie) -> Result<(), CookieRefused> {
        if given.bytes() > COOKIE_BYTES_MAX {
            return Err(CookieRefused::TooLong { bytes: given.bytes() });
        }
        let (cookie, from) = given.read()?;
        self.keep(cookie, &from)
    }

    fn keep(&mut self, mut cookie: Cookie<'static>, url: &Url) -> Result<(), CookieRefused> {
        let malformed =
            |error: cookie_store::CookieError| CookieRefused::Malformed { reason: error.to_string() };
        check(&cookie, url)?;
        if cookie.domain.as_cow().is_some_and(|domain| is_public_suffix(&domain)) {
            // RFC 6265 §5.3, step 5: a suffix may have cookies for itself.
            cookie.domain = CookieDomain::host_only(url).map_err(malformed)?;
        }
        self.make_room(&cookie)?;
        match self.store.insert(cookie, url) {
            Ok(cookie_store::StoreAction::Inserted) => self.count += 1,
            // Replaced, or removed by its own expiry.
            Ok(_) | Err(cookie_store::CookieError::Expired) => {}
            Err(error) => return Err(malformed(error)),
        }
        Ok(())
    }

    /// The value of `Cookie` for `url`: what the jar has, what of `always` the jar has not, and `own`, which wins.
    pub fn header(
        &self,
        url: &Url,
        always: &[(String, String)],
        own: &[(String, String)],
    ) -> Option<HeaderValue> {
        if self.is_empty() && always.is_empty() && own.is_empty() {
            return None;
        }
        let mut matching = self.store.matches(url);
        // Those for the longer path first (RFC 6265 §5.4), and otherwise always in the same order.
        matching.sort_by(|one, other| {
            let key = |cookie: &Cookie<'_>| (std::cmp::Reverse(cookie.path.len()), cookie.name().to_owned());
            key(one).cmp(&key(other))
        });
        let is_own = |name: &str| own.iter().any(|(own, _)| own == name);
        let is_kept = |name: &str| matching.iter().any(|cookie| cookie.name() == name);
        let always = always.iter().filter(|(name, _)| !is_own(name) && !is_kept(name));
        let kept =
            matching.iter().map(|cookie| (cookie.name(), cookie.value())).filter(|(name, _)| !is_own(name));
        let told = always.chain(own).map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<String> = kept.chain(told).map(|(name, value)| format!("{name}={value}")).collect();
        let mut value =
            HeaderValue::from_bytes(all.join("; ").as_bytes()).ok().filter(|_| !all.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// All cookies that are still good.
    pub fn views(&self) -> Vec<CookieView> {
        self.store.iter_unexpired().map(view).collect()
    }

    /// Forgets those that are meant.
    pub fn clear(&mut self, which: &WhichCookies) {
        self.forget(|cookie| which.means(&view(cookie)));
    }

    fn make_room(&mut self, cookie: &Cookie<'_>) -> Result<(), CookieRefused> {
        let domain = cookie.domain.as_cow().unwrap_or_default();
        if self.store.contains_any(&domain, &cookie.path, cookie.name()) {
            return Ok(());
        }
        if self.count >= COOKIES_MAX {
            self.forget(|_| false);
        }
        let of_domain = self
            .store
            .iter_unexpired()
            .filter(|kept| kept.domain.as_cow().as_deref() == Some(&*domain))
            .count();
        if self.count >= COOKIES_MAX || of_domain >= DOMAIN_COOKIES_MAX {
            return Err(CookieRefused::Full);
        }
        Ok(())
    }

    /// Forgets those that `gone` says, and those past their time.
    fn forget(&mut self, gone: impl Fn(&Cookie<'_>) -> bool) {
        let good: Vec<_> = self
            .store
            .iter_unexpired()
            .filter(|cookie| !gone(cookie))
            .map(|cookie| Ok::<_, std::convert::Infallible>(cookie.clone()))
            .collect();
        self.count = good.len();
        let Ok(store) = CookieStore::from_cookies(good, false);
        self.store = store;
    }
}

impl WhichCookies {
    fn means(&self, view: &CookieView) -> bool {
        let is = |said: &Option<String>, own: &str| said.as_deref().is_none_or(|said| said == own);
        let domain = self.domain.as_deref().map(|domain| domain.trim_start_matches('.'));
        is(&self.name, &view.name)
            && is(&self.path, &view.path)
            && domain.is_none_or(|domain| domain.eq_ignore_ascii_case(view.domain.trim_start_matches('.')))
    }
}

/// What browsers check beyond the RFC.
fn check(cookie: &Cookie<'_>, url: &Url) -> Result<(), CookieRefused> {
    let refused = |reason| Err(CookieRefused::NotAllowed { reason });
    let secure = cookie.secure().unwrap_or(false);
    let from_https = url.scheme() == "https";
    if secure && !from_https {
        return refused("a Secure cookie must come over https");
    }
    let has_domain = cookie.domain().is_some();
    if cookie.name().starts_with("__Secure-") && !secure {
        return refused("its name begins with __Secure- and it is not Secure");
    }
    if cookie.name().starts_with("__Host-") && (!secure || has_domain || cookie.path() != Some("/")) {
        return refused(
            "its name begins with __Host- and it is not Secure, for this host alone and for all paths",
        );
    }
    match (cookie.domain(), url.host()) {
        (Some(domain), Some(Host::Domain(host))) => {
            let domain = domain.trim_start_matches('.').to_ascii_lowercase();
            if domain != host && is_public_suffix(&domain) {
                return refused("its domain is a public suffix, under which strangers live");
            }
            Ok(())
        }
        (Some(domain), Some(Host::Ipv4(address))) if domain != address.to_string() => {
            refused("an address has no domain")
        }
        (Some(_), Some(Host::Ipv6(_))) => refused("an address has no domain"),
        _ => Ok(()),
    }
}

fn is_public_suffix(domain: &str) -> bool {
    psl::suffix_str(domain).is_some_and(|suffix| suffix == domain)
}

fn view(cookie: &Cookie<'_>) -> CookieView {
    let domain = cookie.domain.as_cow().unwrap_or_default();
    let wide = matches!(cookie.domain, CookieDomain::Suffix(_));
    CookieView {
        name: cookie.name().to_owned(),
        value: cookie.value().to_owned(),
        domain: if wide { format!(".{domain}") } else { domain.into_owned() },
        path: cookie.path.to_string(),
        secure: cookie.secure().unwrap_or(false),
        http_only: cookie.http_only().unwrap_or(false),
        expires: match cookie.expires {
            CookieExpiration::AtUtc(at) => Some(u64::try_from(at.unix_timestamp()).unwrap_or(0)),
            CookieExpiration::SessionEnd => None,
        },
    }
}

/// A name with its value has up to 4,096 bytes in browsers, and each attribute up to 1,024.
const COOKIE_BYTES_MAX: usize = 8 * 1024;
/// Lines that are read of one response.
const LINES_MAX: usize = 64;
/// Browsers keep 3,000 and more, of all sites; a program speaks to few.
const COOKIES_MAX: usize = 1_000;
/// As Firefox and Chrome have it.
const DOMAIN_COOKIES_MAX: usize = 180;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn sent(jar: &Jar, to: &str) -> String {
        jar.header(&url(to), &[], &[]).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_go_where_they_belong() {
        let mut jar = Jar::default();
        let at = url("https://www.a.test/shop/cart");
        for line in ["one=1", "two=2; Path=/", "three=3; Domain=a.test; Path=/", "four=4; Secure; Path=/shop"]
        {
            jar.set(line.as_bytes(), &at).unwrap();
        }
        assert_eq!(sent(&jar, "https://www.a.test/shop/x"), "four=4; one=1; three=3; two=2");
        assert_eq!(sent(&jar, "http://www.a.test/shop/x"), "one=1; three=3; two=2");
        assert_eq!(sent(&jar, "https://www.a.test/"), "three=3; two=2");
        assert_eq!(sent(&jar, "https://other.a.test/"), "three=3");
        assert_eq!(sent(&jar, "https://b.test/"), "");
        jar.set(b"two=; Max-Age=0; Path=/", &at).unwrap();
        assert_eq!(sent(&jar, "https://www.a.test/"), "three=3");
        assert_eq!(jar.views().len(), 3);
    }

    #[test]
    fn what_a_host_may_not_give_is_not_kept() {
        let cases = [
            ("https://a.co.uk/", "x=1; Domain=co.uk"),
            ("https://a.test/", "x=1; Domain=test"),
            ("https://a.test/", "x=1; Domain=b.test"),
            ("https://a.test/", "x=1; Domain=www.a.test"),
            ("http://a.test/", "x=1; Secure"),
            ("https://a.test/", "__Secure-x=1"),
            ("https://a.test/", "__Host-x=1; Secure; Path=/; Domain=a.test"),
            ("https://a.test/", "__Host-x=1; Secure; Path=/y"),
            ("http://10.0.0.1/", "x=1; Domain=0.1"),
            ("https://a.test/", "x=1\u{1}"),
            ("https://a.test/", ""),
        ];
        for (from, line) in cases {
            let mut jar = Jar::default();
            assert!(jar.set(line.as_bytes(), &url(from)).is_err(), "{from} {line:?}");
            assert!(jar.views().is_empty(), "{from} {line:?}");
        }
        let mut jar = Jar::default();
        jar.set(b"__Host-x=1; Secure; Path=/", &url("https://a.test/")).unwrap();
        jar.set(b"x=1; Domain=10.0.0.1", &url("http://10.0.0.1/")).unwrap();
        assert_eq!(jar.views().len(), 2);
    }

    /// A peer sets cookies for ever, under ever new names: the jar stays small.
    #[test]
    fn a_jar_is_bounded() {
        let mut jar = Jar::default();
        let mut refused = 0;
        for host in 0..20 {
            for name in 0..200 {
                let from = url(&format!("https://h{host}.test/"));
                refused += usize::from(jar.set(format!("n{name}=1").as_bytes(), &from).is_err());
            }
        }
        assert_eq!(jar.views().len(), COOKIES_MAX);
        assert_eq!(refused, 4000 - COOKIES_MAX);
        assert!(jar.set(&[b'x'; COOKIE_BYTES_MAX + 1], &url("https://a.test/")).is_err());
        let one = jar.header(&url("https://h0.test/"), &[], &[]).unwrap();
        assert_eq!(one.as_bytes().split(|byte| *byte == b';').count(), DOMAIN_COOKIES_MAX);
    }

    #[test]
    fn the_callers_own_cookie_wins() {
        let mut jar = Jar::default();
        jar.set(b"a=jar", &url("http://a.test/")).unwrap();
        let own = [("a".to_owned(), "own".to_owned())];
        assert_eq!(jar.header(&url("http://a.test/"), &[], &own).unwrap(), "a=own");
        let always = ["a", "b"].map(|name| (name.to_owned(), "always".to_owned()));
        assert_eq!(jar.header(&url("http://a.test/"), &always, &[]).unwrap(), "a=jar; b=always");
        assert_eq!(jar.header(&url("http://a.test/"), &always, &own).unwrap(), "b=always; a=own");
    }

    /// `github.io` may have cookies, and whoever lives below it does not get them.
    #[test]
    fn a_public_suffix_has_cookies_for_itself_alone() {
        let mut jar = Jar::default();
        jar.set(b"x=1; Domain=github.io", &url("https://github.io/")).unwrap();
        assert_eq!(sent(&jar, "https://github.io/"), "x=1");
        assert_eq!(sent(&jar, "https://stranger.github.io/"), "");
        assert_eq!(jar.views()[0].domain, "github.io");
    }

    #[test]
    fn what_is_meant_is_cleared() {
        let mut jar = Jar::default();
        for line in ["a=1; Domain=a.test; Path=/", "b=2; Path=/x", "c=3; Path=/"] {
            jar.set(line.as_bytes(), &url("https://www.a.test/")).unwrap();
        }
        jar.set(b"a=1", &url("https://b.test/")).unwrap();
        let names = |jar: &Jar| {
            let mut names: Vec<_> =
                jar.views().into_iter().map(|view| view.name + "@" + &view.domain).collect();
            names.sort();
            names.join(" ")
        };
        jar.clear(&WhichCookies { path: Some("/x".to_owned()), ..WhichCookies::default() });
        assert_eq!(names(&jar), "a@.a.test a@b.test c@www.a.test");
        jar.clear(&WhichCookies { domain: Some("A.test".to_owned()), ..WhichCookies::default() });
        assert_eq!(names(&jar), "a@b.test c@www.a.test");
        jar.clear(&WhichCookies { name: Some("c".to_owned()), ..WhichCookies::default() });
        assert_eq!(names(&jar), "a@b.test");
        jar.clear(&WhichCookies::default());
        assert!(jar.is_empty());
    }
}
