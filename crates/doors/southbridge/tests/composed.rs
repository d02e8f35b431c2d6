//! Requests that are made when there is a connection for them, and not before (F6).

mod support;

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::Request;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::{Compose, Composing, ExchangeError};
use southbridge_testkit::raw::{RawPeer, faults};

use support::{PATIENCE, on_kernel_with, plain, until};

/// Makes what is in it when it is asked, and counts how often that was.
#[derive(Default)]
struct Letter {
    text: RefCell<Option<&'static str>>,
    asked: Cell<u32>,
}

impl Compose for Letter {
    fn compose(&self) -> Composing<'_> {
        self.asked.set(self.asked.get() + 1);
        let request = self.text.borrow().map(|text| {
            Request::put("/_matrix/federation/v1/send/1")
                .body(Bytes::from_static(text.as_bytes()))
                .expect("fine")
        });
        Box::pin(std::future::ready(request))
    }
}

/// A letter is handed in while the only connection is busy, and is written further until that is free: what
/// goes out is what stood in it then.
#[tokio::test]
async fn what_is_sent_is_what_there_is_when_a_connection_is_lent() {
    on_kernel_with(one_connection, async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let target = plain(peer.address());
        let first = rig.send(rig.get(&target, PATIENCE)).await.expect("an answer");
        let letter = Letter::default();
        letter.text.replace(Some("early"));
        let second = rig.kernel.exchange_composed(rig.get(&target, PATIENCE), &letter);
        let writing = async {
            until("the letter waits", || rig.kernel.pool_usage().waiting == 1).await;
            assert_eq!(letter.asked.get(), 0, "nobody asked for it while there was no connection");
            letter.text.replace(Some("late"));
            drop(first.into_body().collect_all(100).await);
        };
        let (answer, ()) = tokio::join!(second, writing);
        assert_eq!(answer.expect("an answer").status(), 200);
        assert_eq!(letter.asked.get(), 1);
        let received = String::from_utf8(peer.received(0)).unwrap();
        assert!(received.contains("PUT /_matrix/federation/v1/send/1 HTTP/1.1"), "{received}");
        assert!(received.ends_with("late"), "{received}");
    })
    .await;
}

/// There was something to send, and when a connection was lent there was not: the connection goes back unused
/// and serves the next, and nothing is held against the host.
#[tokio::test]
async fn a_connection_with_nothing_to_send_on_it_goes_back() {
    on_kernel_with(one_connection, async |rig| {
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let target = plain(peer.address());
        let empty = Letter::default();
        let refused = rig.kernel.exchange_composed(rig.get(&target, PATIENCE), &empty).await;
        let error = refused.err().expect("there was nothing to send");
        assert!(matches!(error, ExchangeError::Withdrawn { .. }), "{error}");
        assert!(error.is_repeatable());
        assert!(rig.is_served(&target).await);
        assert_eq!(peer.connections(), 1, "the connection that was lent for nothing");
        until("the rig is at rest", || rig.is_at_rest()).await;
    })
    .await;
}

fn one_connection(config: &mut KernelConfig) {
    config.pool.exclusive_per_peer_max = 1;
}
