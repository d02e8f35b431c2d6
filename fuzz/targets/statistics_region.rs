//! The statistics file of another process: cut off, of another version, or made by somebody who means harm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_kernel::stats::{Exposition, Reading, Value};

fuzz_target!(|bytes: &[u8]| {
    let Ok(reading) = Reading::parse(bytes) else { return };
    assert!(reading.figures.len() <= bytes.len() / 64, "a record has 64 bytes at the least");
    assert!(reading.damage.is_none_or(|damage| damage.at <= bytes.len()));
    for figure in &reading.figures {
        assert!(!figure.name.is_empty() && figure.name.is_ascii());
        if let Value::Histogram(spread) = &figure.value {
            let median = spread.quantile(0.5);
            assert_eq!(median.is_none(), spread.count() == 0);
            assert!(median <= spread.quantile(0.99));
        }
    }
    let mut page = Exposition::default();
    page.reading(&reading);
    let text = page.into_text();
    assert!(text.is_empty() == reading.figures.is_empty());
});
