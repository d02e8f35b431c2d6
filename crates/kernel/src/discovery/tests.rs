//! Discovery by DNS that does not answer.

use std::time::Duration;

use southbridge_testkit::dns::DnsServer;
use tokio::task::LocalSet;

use super::*;
use crate::Surroundings;
use crate::dns::{Dns, DnsConfig};

/// The server never answers. Who had no time is told so at once; with time, it is the deadline that ends it, and not
/// the patience of DNS.
#[tokio::test]
async fn a_discovery_ends_at_its_deadline() {
    let story = async {
        let server = DnsServer::start().await.expect("a loopback port");
        server.otherwise(|_, _| Some(southbridge_testkit::dns::Answer::Silence));
        let around = Surroundings::real();
        let config = DnsConfig { servers: vec![server.address()], ..DnsConfig::default() };
        let dns = Dns::new(&config, &around).expect("a good configuration");
        let ways: [Rc<dyn Discover>; 2] =
            [Rc::new(DnsDiscovery::http(dns.clone())), Rc::new(SrvDiscovery::new(dns, "_api._tcp", true))];
        let service = ServiceName::new("a.test");
        for way in ways {
            for time in [Duration::ZERO, Duration::from_millis(10)] {
                let found = way.discover(&service, around.clock.now() + time).await;
                assert!(matches!(found, Err(DiscoveryError::DeadlinePassed { .. })), "{time:?}: {found:?}");
            }
        }
    };
    LocalSet::new().run_until(story).await;
}
