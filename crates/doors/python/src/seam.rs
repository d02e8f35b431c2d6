//! The seam to the kernel: what this door takes of the Rust API, under the names that it uses.
//!
//! Everything that crosses to the I/O thread is one of these types, and none of them can hold a Python object.
//!
//! # Source
//! K3, K4, K15.

use southbridge::Southbridge;
use southbridge::client::{Answer, Completion};
use southbridge::federation::FederationConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::port::{News, StartError};
use southbridge_words::{Step, Ticket};

pub use southbridge::client::{
    Auth, Body, Client, ClientConfig, ClientError as Failure, ClientTls, Content, Multipart, Part, Port,
    ProxyChoice, ProxyRules, Request, Response as Incoming, Timeouts,
};

/// The kernel's thread.
pub type KernelThread = southbridge_kernel::port::KernelThread<Southbridge>;

/// One request, copied out of the interpreter, and by whose settings it is made.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Whose.
    pub client: Client,
    /// What is asked.
    pub request: Request,
}

/// Starts the kernel of this process. What it may dial is said by each client: decision 0010.
///
/// # Errors
/// [`StartError`] when there is no thread to be had.
pub fn start() -> Result<KernelThread, StartError> {
    Southbridge::start(KernelConfig::default(), FederationConfig::default())
}

/// Hands `outgoing` in at `port`. Never blocks.
///
/// # Errors
/// [`Failure`] when it is refused on this side.
pub fn submit(port: &Port, outgoing: Outgoing) -> Result<Ticket, Failure> {
    outgoing.client.submit(port, outgoing.request)
}

/// Takes at most `completions_max` answers.
pub fn drain(
    port: &Port,
    completions_max: usize,
    mut take: impl FnMut(Ticket, Result<Box<Incoming>, Failure>),
) -> usize {
    port.drain(completions_max, |Completion { ticket, news }| {
        if let News::Done(result) = news {
            take(ticket, result.and_then(whole));
        }
    })
}

fn whole(answer: Answer) -> Result<Box<Incoming>, Failure> {
    match answer {
        Answer::Response(response) | Answer::Head(response) => Ok(response),
        other => Err(Failure::Failed {
            step: Step::Response,
            is_repeatable: false,
            reason: format!("the kernel answered a request with {other:?}"),
        }),
    }
}
