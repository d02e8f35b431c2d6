//! Hosts that say nothing, and others who wait for the places they hold: row 1 of the fault list, and its like in TLS.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_kernel::net::ConnectError;
use southbridge_policy::pool::PoolLimits;
use southbridge_testkit::black_hole::BlackHole;
use southbridge_testkit::raw::{RawPeer, faults};
use support::{PATIENCE, Rig, Target, on_kernel_with, plain, tls};
use tokio::net::TcpListener;

/// One place to dial and one to shake hands, and little patience.
fn scarce(config: &mut KernelConfig) {
    config.pool = PoolLimits {
        dials_max: 1,
        limited_dials_max: 1,
        handshakes_max: 1,
        limited_handshakes_max: 1,
        dial_patience: LITTLE,
        handshake_patience: LITTLE,
        ..PoolLimits::default()
    };
}

/// What becomes of two requests to `silent` while another peer, which is well, waits for their place.
async fn with_another_waiting(rig: &Rig, silent: &Target) -> [ConnectError; 2] {
    let peer = RawPeer::plain(vec![faults::well()]).await.expect("a peer");
    let well = plain(peer.address());
    let ask = || rig.ask(rig.get(silent, PATIENCE));
    let (one, other, served) = tokio::join!(ask(), ask(), rig.is_served(&well));
    assert!(served, "who is well is served");
    assert!(rig.is_at_rest());
    [one, other].map(|answer| match answer {
        Err(ExchangeError::Connect { source, .. }) => (*source).clone(),
        other => panic!("it should not have been reached: {other:?}"),
    })
}

/// Nobody answers the SYN. The dial gives way long before its own end, and all who waited for it learn what became
/// of which address.
#[tokio::test]
async fn row_01_a_silent_dial_gives_way_and_its_callers_learn_why() {
    on_kernel_with(scarce, async |rig| {
        let hole = BlackHole::open().unwrap();
        for error in with_another_waiting(&rig, &plain(hole.address())).await {
            let ConnectError::TimedOut { attempts, waited } = &error else { panic!("{error}") };
            assert!((LITTLE..PATIENCE).contains(waited), "{error}");
            let addresses: Vec<SocketAddr> = attempts.iter().map(|(address, _)| *address).collect();
            assert_eq!(addresses, [hole.address()]);
        }
    })
    .await;
}

/// TCP is accepted and TLS is not answered. The same for the handshake.
#[tokio::test]
async fn a_stalled_handshake_gives_way_and_its_callers_learn_why() {
    on_kernel_with(scarce, async |rig| {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = mute.local_addr().unwrap();
        for error in with_another_waiting(&rig, &tls("mute.test", address)).await {
            let ConnectError::HandshakeTimedOut { address: named, waited } = &error else {
                panic!("{error}")
            };
            assert!((LITTLE..PATIENCE).contains(waited), "{error}");
            assert_eq!(*named, address);
        }
    })
    .await;
}

/// Nobody else waits: a slow peer gets the time that the kernel gives to all.
#[tokio::test]
async fn who_is_in_nobodys_way_may_take_long() {
    on_kernel_with(scarce, async |rig| {
        let hole = BlackHole::open().unwrap();
        let error = rig.ask(rig.get(&plain(hole.address()), LITTLE * 4)).await.expect_err("nobody is there");
        assert!(matches!(error, ExchangeError::DeadlinePassed { .. }), "{error:?}");
    })
    .await;
}

const LITTLE: Duration = Duration::from_millis(200);
