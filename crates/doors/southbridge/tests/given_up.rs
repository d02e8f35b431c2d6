//! What callers give up: it is counted, and nothing else is.

mod support;

use std::time::Duration;

use southbridge_kernel::exchange::ExchangeError;
use southbridge_testkit::raw::{RawPeer, Step, faults};
use support::{PATIENCE, SOON, on_kernel, plain, until};

/// One caller goes away before there is an answer, one in the middle of it. Who is answered, or told that there will be
/// no answer, has not given up.
#[tokio::test]
async fn requests_that_their_callers_give_up_are_counted() {
    on_kernel(async |rig| {
        let cancelled = || rig.kernel.stats().cancelled.get();
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        assert!(rig.is_served(&plain(peer.address())).await);
        let silent = RawPeer::plain(vec![vec![Step::ReadRequest, Step::Stall]]).await.unwrap();
        let to = plain(silent.address());
        let error = rig.ask(rig.get(&to, SOON)).await.expect_err("nothing comes");
        assert!(matches!(error, ExchangeError::DeadlinePassed { .. }), "{error:?}");
        let cut = RawPeer::plain(vec![vec![Step::ReadRequest, Step::Drop]]).await.unwrap();
        rig.ask(rig.post(&plain(cut.address()), PATIENCE)).await.expect_err("it is cut off");
        assert_eq!(cancelled(), 0);

        let mut waiting = Box::pin(rig.ask(rig.get(&to, PATIENCE)));
        until("it is under way", || {
            let polled = futures_util::FutureExt::now_or_never(&mut waiting);
            assert!(polled.is_none());
            silent.received(1).ends_with(b"\r\n\r\n")
        })
        .await;
        drop(waiting);
        assert_eq!(cancelled(), 1);

        let slow = RawPeer::plain(vec![faults::drip(1000, 1, Duration::from_millis(20))]).await.unwrap();
        let response = rig.send(rig.get(&plain(slow.address()), PATIENCE)).await.unwrap();
        assert_eq!(cancelled(), 1);
        drop(response);
        assert_eq!(cancelled(), 2);
        until("everything is given back", || rig.is_at_rest()).await;
        assert_eq!(cancelled(), 2);
    })
    .await;
}
