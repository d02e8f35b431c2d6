//! Hosts that answer, but not as one would wish: row 16, and the redirects of row 12 that are not ours to follow.

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::LOCATION;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_testkit::homeserver::{Behaviour, Homeservers};
use southbridge_words::HostState;
use support::{PATIENCE, Rig, Target, on_kernel, on_kernel_with, tls};

/// A host that says no lives, however often it says so, and so does one that has moved or gone.
#[tokio::test]
async fn row_16_refusals_of_single_requests_leave_a_host_healthy() {
    on_kernel_with(hasty, async |rig| {
        for status in [301, 400, 401, 403, 404, 405, 410, 413, 421] {
            let (_servers, to) = answering(&rig, status, &[]).await;
            for _ in 0..40 {
                assert_eq!(rig.ask(rig.get(&to, PATIENCE)).await.expect("an answer").0.as_u16(), status);
            }
            assert_eq!(rig.state(&to), Some(HostState::Healthy), "{status}");
        }
    })
    .await;
}

/// A host that cannot do its work is handed on as it is, fails in rank at once, and goes down when it goes on.
#[tokio::test]
async fn row_16_server_errors_take_a_host_down_in_the_end() {
    on_kernel_with(hasty, async |rig| {
        for status in [500, 502, 503, 504, 520] {
            let (_servers, to) = answering(&rig, status, &[]).await;
            for nth in 1..=15 {
                assert_eq!(rig.ask(rig.get(&to, PATIENCE)).await.expect("an answer").0.as_u16(), status);
                let state = rig.state(&to).expect("known");
                assert_eq!(state == HostState::Down, nth == 15, "{status} for the {nth}th time: {state:?}");
                assert_eq!(state == HostState::Failing, (2..15).contains(&nth), "{status}, {nth}: {state:?}");
            }
            let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("refused at once");
            assert!(matches!(error, ExchangeError::HostDown { .. }), "{error:?}");
        }
    })
    .await;
}

/// A reverse proxy answers in HTML where JSON was asked for: the bytes are handed on, the host counts as failing.
#[tokio::test]
async fn row_16_an_answer_in_html_is_handed_on_and_counted() {
    on_kernel_with(hasty, async |rig| {
        let servers = Homeservers::start(rig.authority.clone()).await.unwrap();
        servers.behave("a.test", Behaviour::HtmlBadGateway);
        let to = tls("a.test", servers.address());
        for _ in 0..2 {
            let (status, body) = rig.ask(rig.get(&to, PATIENCE)).await.expect("an answer");
            assert_eq!(status.as_u16(), 502);
            assert!(body.starts_with(b"<html>"), "{body:?}");
        }
        assert_eq!(rig.state(&to), Some(HostState::Failing));
    })
    .await;
}

/// "Not now", with and without a time: the time is honoured in both of its forms, and never longer than the cap.
#[tokio::test]
async fn row_16_retry_after_is_honoured_up_to_a_cap() {
    const CAP: u64 = 60;
    let in_half_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(40));
    let long_ago = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(1));
    let cases: &[(Option<&str>, std::ops::RangeInclusive<u64>)] = &[
        (None, 0..=5),
        (Some("30"), 25..=30),
        (Some(&in_half_a_minute), 25..=40),
        (Some(&long_ago), 0..=5),
        (Some("86400"), CAP - 5..=CAP),
        (Some("99999999999999999999999999"), CAP - 5..=CAP),
        (Some("soon"), 0..=5),
    ];
    on_kernel_with(hasty, async |rig| {
        for (retry_after, expected) in cases {
            let headers: Vec<_> = retry_after.iter().map(|value| ("retry-after", *value)).collect();
            let (_servers, to) = answering(&rig, 429, &headers).await;
            for _ in 0..15 {
                assert_eq!(rig.ask(rig.get(&to, PATIENCE)).await.expect("an answer").0.as_u16(), 429);
            }
            let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("left alone");
            let ExchangeError::HostDown { down, .. } = error else { panic!("{retry_after:?}: {error:?}") };
            assert!(expected.contains(&down.retry_in.as_secs()), "{retry_after:?}: {:?}", down.retry_in);
        }
    })
    .await;
}

/// A redirect of the federation API is the caller's to judge: it is handed on, and nobody follows it.
#[tokio::test]
async fn row_12_redirects_of_the_api_are_never_followed() {
    on_kernel(async |rig| {
        for status in [301, 302, 303, 307, 308] {
            let elsewhere = Homeservers::start(rig.authority.clone()).await.unwrap();
            let target = format!("https://b.test:{}/", elsewhere.port());
            let (servers, to) = answering(&rig, status, &[("location", &target)]).await;
            let response = rig.send(rig.get(&to, PATIENCE)).await.expect("an answer");
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[LOCATION], target.as_str());
            drop(response);
            assert_eq!((servers.counts().requests, elsewhere.counts().accepted), (1, 0));
        }
    })
    .await;
}

/// A host that gives every request this status and these headers.
async fn answering(rig: &Rig, status: u16, headers: &[(&str, &str)]) -> (Homeservers, Target) {
    let servers = Homeservers::start(rig.authority.clone()).await.expect("a socket");
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    servers.behave("a.test", Behaviour::Status { status, headers });
    let to = tls("a.test", servers.address());
    (servers, to)
}

/// Failures count one by one, however soon they follow each other.
fn hasty(config: &mut KernelConfig) {
    config.ranker.grace = Duration::ZERO;
}
