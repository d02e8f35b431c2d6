//! How long a .well-known answer may be believed, by its headers.
//!
//! # Source
//! RFC 9111 §4.2 (freshness) and §5.2 (Cache-Control); the Matrix specification asks to honour them and
//! caps the result at 48 hours. This is a private cache, so `s-maxage` is not for us.

use std::time::{Duration, UNIX_EPOCH};

use southbridge_policy::seeded::Seeded;
use southbridge_words::WallTime;

use super::ResolverLimits;

/// The header values of a response that say how long it may be believed. Several lines of one name are
/// joined with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheHeaders {
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`.
    pub expires: Option<String>,
    /// `Date`.
    pub date: Option<String>,
    /// `Age`: seconds the response spent in caches on its way.
    pub age: Option<String>,
}

/// What the headers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Believe it for so long; zero for what is out of date already.
    For(Duration),
    /// Do not keep it (`no-store`, `no-cache`). It is kept for the least time there is, because asking
    /// for every request helps nobody.
    NotAtAll,
    /// They do not say.
    Unsaid,
}

impl Lifetime {
    /// Fits the wish into the limits. What was left unsaid differs a little each time, so that what was
    /// fetched together does not end together.
    pub(super) fn granted(self, limits: &ResolverLimits, seeded: &mut Seeded) -> Duration {
        let wish = match self {
            Self::For(wish) => wish,
            Self::NotAtAll => Duration::ZERO,
            Self::Unsaid => limits.well_known_fresh_default.mul_f64(seeded.factor(0.9, 1.1)),
        };
        wish.max(limits.well_known_fresh_min).min(limits.well_known_fresh_max)
    }
}

/// Reads the headers of an answer that came at `received_at`. What cannot be read counts as not said,
/// except for `Expires`, where RFC 9111 §5.3 takes it as "in the past".
pub fn lifetime(headers: &CacheHeaders, received_at: WallTime) -> Lifetime {
    let control = headers.cache_control.as_deref().map(Control::read).unwrap_or_default();
    if control.refused {
        return Lifetime::NotAtAll;
    }
    let age = headers.age.as_deref().and_then(seconds).unwrap_or_default();
    if let Some(max_age) = control.max_age {
        return Lifetime::For(max_age.saturating_sub(age));
    }
    match headers.expires.as_deref() {
        Some(expires) => {
            Lifetime::For(until(expires, headers.date.as_deref(), received_at).saturating_sub(age))
        }
        None => Lifetime::Unsaid,
    }
}

/// The part of `Cache-Control` that concerns a private cache.
#[derive(Default)]
struct Control {
    max_age: Option<Duration>,
    refused: bool,
}

impl Control {
    fn read(value: &str) -> Self {
        let mut control = Self::default();
        for directive in Directives(value) {
            let (name, argument) = match directive.split_once('=') {
                Some((name, argument)) => (name.trim(), Some(argument.trim().trim_matches('"').trim())),
                None => (directive.trim(), None),
            };
            if name.eq_ignore_ascii_case("no-store") {
                control.refused = true;
            } else if name.eq_ignore_ascii_case("no-cache") {
                // With an argument it is about single headers, not about the response.
                control.refused |= argument.is_none();
            } else if name.eq_ignore_ascii_case("max-age") && control.max_age.is_none() {
                control.max_age = argument.and_then(seconds);
            }
        }
        control
    }
}

/// The directives of a header value: parted by commas that are not within quotes.
struct Directives<'a>(&'a str);

impl<'a> Iterator for Directives<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = self.0.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (directive, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, ""),
        };
        self.0 = rest;
        Some(directive)
    }
}

/// A count of seconds. A number too large to hold is "for ever" (RFC 9111 §1.2.2), a negative or broken
/// one is none.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(FOR_EVER, Duration::from_secs))
}

fn until(expires: &str, date: Option<&str>, received_at: WallTime) -> Duration {
    let Some(expires) = millis(expires) else { return Duration::ZERO };
    let sent_at = date.and_then(millis).unwrap_or(received_at);
    expires.saturating_since(sent_at)
}

fn millis(date: &str) -> Option<WallTime> {
    let since = httpdate::parse_http_date(date.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(WallTime::from_unix_millis(u64::try_from(since.as_millis()).ok()?))
}

// Capped by the limits anyway; small enough to calculate with.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Sun, 06 Nov 1994 08:49:37 GMT
    const RECEIVED_AT: WallTime = WallTime::from_unix_millis(784_111_777_000);
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const MINUTE_LATER: &str = "Sun, 06 Nov 1994 08:50:37 GMT";

    fn read(cache_control: &str, expires: &str, date: &str, age: &str) -> Lifetime {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let headers = CacheHeaders {
            cache_control: some(cache_control),
            expires: some(expires),
            date: some(date),
            age: some(age),
        };
        lifetime(&headers, RECEIVED_AT)
    }

    #[test]
    fn cache_control_is_read_as_a_private_cache_reads_it() {
        let of = |secs| Lifetime::For(Duration::from_secs(secs));
        for (value, expected) in [
            ("max-age=600", of(600)),
            ("public, Max-Age = \"600\"", of(600)),
            ("s-maxage=5, max-age=600", of(600)),
            ("s-maxage=5", Lifetime::Unsaid),
            ("max-age=600, max-age=5", of(600)),
            ("max-age=99999999999999999999999", Lifetime::For(FOR_EVER)),
            ("max-age=-1", Lifetime::Unsaid),
            ("max-age=1.5", Lifetime::Unsaid),
            ("max-age", Lifetime::Unsaid),
            ("max-age=600, no-store", Lifetime::NotAtAll),
            ("NO-CACHE", Lifetime::NotAtAll),
            ("no-cache=\"set-cookie, max-age=1\", max-age=600", of(600)),
            (",,=,\"", Lifetime::Unsaid),
        ] {
            assert_eq!(read(value, "", "", ""), expected, "{value}");
        }
    }

    #[test]
    fn expires_counts_from_date_and_max_age_goes_before_it() {
        let minute = Lifetime::For(Duration::from_secs(60));
        assert_eq!(read("", MINUTE_LATER, DATE, ""), minute);
        assert_eq!(read("", MINUTE_LATER, "", ""), minute);
        assert_eq!(read("", MINUTE_LATER, "yesterday", ""), minute);
        assert_eq!(read("", MINUTE_LATER, DATE, "20"), Lifetime::For(Duration::from_secs(40)));
        assert_eq!(read("max-age=5", MINUTE_LATER, DATE, ""), Lifetime::For(Duration::from_secs(5)));
        assert_eq!(read("", DATE, MINUTE_LATER, ""), Lifetime::For(Duration::ZERO));
        assert_eq!(read("", "0", DATE, ""), Lifetime::For(Duration::ZERO));
        assert_eq!(read("max-age=60", "", "", "100"), Lifetime::For(Duration::ZERO));
    }

    #[test]
    fn what_is_granted_stays_between_five_minutes_and_two_days() {
        let limits = ResolverLimits::default();
        let granted = |lifetime: Lifetime| lifetime.granted(&limits, &mut Seeded::new(1));
        assert_eq!(granted(Lifetime::NotAtAll), limits.well_known_fresh_min);
        assert_eq!(granted(Lifetime::For(Duration::ZERO)), limits.well_known_fresh_min);
        assert_eq!(granted(Lifetime::For(FOR_EVER)), limits.well_known_fresh_max);
        let unsaid = granted(Lifetime::Unsaid).as_secs_f64() / limits.well_known_fresh_default.as_secs_f64();
        assert!((0.9..1.1).contains(&unsaid));
    }

    proptest! {
        /// Headers are written by strangers.
        #[test]
        fn any_headers_are_read_without_harm(a in "\\PC{0,60}", b in "\\PC{0,40}", c in "\\PC{0,40}", d in "[0-9]{0,30}") {
            let granted = read(&a, &b, &c, &d).granted(&ResolverLimits::default(), &mut Seeded::new(1));
            prop_assert!(granted >= Duration::from_secs(300) && granted <= Duration::from_secs(172_800));
        }
    }
}
