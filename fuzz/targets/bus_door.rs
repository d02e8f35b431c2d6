//! What a stranger can say at the bus door.
//!
//! The input is a method and a target up to a line feed, as in a request line, then a body, which is read as each of the
//! things that it may be.
#![no_main]

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use southbridge::bus_door::{
    Arguments, DestinationSets, SetLimits, What, find_route, read_question, read_submissions,
};
use southbridge_words::WallTime;

fuzz_target!(|bytes: &[u8]| {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(line), Some(body)) = (halves.next(), halves.next()) else { return };
    read_line(line);
    let mut sets = DestinationSets::new(SetLimits { sets_max: 4, names_max: 16 });
    if let Ok(submissions) = read_submissions(body, &mut sets, WallTime::from_unix_millis(1)) {
        for submission in submissions.into_iter().flatten() {
            assert!(!submission.destinations.is_empty(), "accepted for nobody");
            assert!(submission.key.is_none_or(|key| (1..=255).contains(&key.len())));
            // The signature lies over these bytes: they are those that came.
            let sent = match &submission.what {
                What::Pdu(pdu) => pdu.bytes(),
                What::Edu(edu) => edu.content(),
            };
            assert!(body.windows(sent.len()).any(|window| window == sent), "bytes that did not come");
        }
    }
    if let Ok(question) = read_question(body) {
        let asked = question.query.resolve().expect("it was resolved when it was read");
        assert!(asked.path_and_query.as_str().starts_with("/_matrix/"));
        assert!(asked.path_and_query.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
});

/// What is accepted leads to a line of the table, and its arguments are what stands there.
fn read_line(line: &[u8]) {
    let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
        return;
    };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), target.parse::<Uri>()) else { return };
    let Ok(found) = find_route(&method, uri.path()) else { return };
    assert_eq!(found.route.method, method.as_str());
    assert_eq!(found.name.is_empty(), !found.route.path.contains('{'), "{:?}", found.name);
    let Ok(arguments) = Arguments::read(uri.query(), found.route.arguments) else { return };
    for name in found.route.arguments {
        let written = uri.query().is_some_and(|query| query.contains(name));
        assert!(written || arguments.get(name).is_none(), "{name} was not said");
        if let Ok(Some(number)) = arguments.number(name, 1..=1000) {
            assert!((1..=1000).contains(&number));
        }
    }
}
