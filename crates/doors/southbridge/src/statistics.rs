//! The statistics of a program that has a kernel inside: published from the I/O thread, as the program asks.
//!
//! The program keeps the [`Region`] that it counts in, and gives it to its kernel
//! ([`southbridge_kernel::stats::StatsConfig`]); what is here has the kernel publish it.
//!
//! # Source
//! K10.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use southbridge_kernel::net::ListenAddress;
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_kernel::stats::Board;
use southbridge_kernel::stats::publish::{PublishConfig, Publishing, publish as begin};
use southbridge_words::Ticket;

pub use southbridge_kernel::stats::Region;

use crate::Southbridge;
use crate::client::{Answer, ClientError, Port};

/// Has figures published as `config` says, from now on and until it is called again; the answer is `Answer::Done`.
/// Where Prometheus can ask is told to `listening`.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full. [`ClientError::InvalidSetting`] is the answer when the system
/// gives no socket or thread; what was published before is then published no more.
pub fn publish(
    port: &Port,
    config: PublishConfig,
    listening: Arc<OnceLock<ListenAddress>>,
) -> Result<Ticket, ClientError> {
    Ok(port.submit(Publish { config, listening })?)
}

struct Publish {
    config: PublishConfig,
    listening: Arc<OnceLock<ListenAddress>>,
}

impl Errand<Southbridge> for Publish {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let desk = Rc::clone(desk);
        line.carry(move |reply| async move { reply.give(self.on(&desk).await) })
    }
}

impl Publish {
    async fn on(&self, desk: &Southbridge) -> Result<Answer, ClientError> {
        let before = desk.published().0.take();
        if let Some(before) = before {
            // First: the new endpoint may be the old one.
            before.end().await;
        }
        let board = Board::new(desk.kernel().clone(), vec![desk.metrics()]);
        let publishing = begin(&board, &self.config).map_err(|error| ClientError::InvalidSetting {
            setting: "statistics",
            reason: error.to_string(),
        })?;
        if let Some(address) = publishing.listening() {
            let _first_word_holds = self.listening.set(address.clone());
        }
        desk.published().0.replace(Some(publishing));
        Ok(Answer::Done)
    }
}

/// What is published at the moment.
#[derive(Default)]
pub(crate) struct Published(RefCell<Option<Publishing>>);
