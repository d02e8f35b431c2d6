//! The headers that say how long a .well-known answer may be believed: one line of input each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_bus::resolver::{CacheHeaders, Lifetime, lifetime};
use southbridge_words::WallTime;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n').map(|line| (!line.is_empty()).then(|| line.to_owned()));
    let mut line = || lines.next().flatten();
    let headers = CacheHeaders { cache_control: line(), expires: line(), date: line(), age: line() };
    let early = lifetime(&headers, WallTime::from_unix_millis(0));
    let late = lifetime(&headers, WallTime::from_unix_millis(u64::MAX));
    // The later an answer came, the less of its time is left.
    if let (Lifetime::For(early), Lifetime::For(late)) = (early, late) {
        assert!(late <= early, "{headers:?}: {early:?} when it came early, {late:?} when it came late");
    }
});
