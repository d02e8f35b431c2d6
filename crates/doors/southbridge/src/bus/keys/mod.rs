//! The keys of other homeservers, and believing what they signed (F18).
//!
//! [`Keys`] drives the [`Keyring`](southbridge_bus::keyring::Keyring): its fetches become exchanges of the kernel, in the
//! class of what a homeserver waits for to go on, with a deadline and a bound of their own; who asks for the same server
//! at the same time shares one fetch, and what notaries are asked is gathered into batches. Whom to believe, for what
//! and for how long is the keyring's to say.
//!
//! ```text
//! event, object, request ──▶ who must have signed it, with which keys ──▶ Keyring ──▶ fetch: origin, notaries
//!                                              believed, or not ◀── checked ◀── keys ◀──┘
//! ```
//!
//! # Units
//! A timeout of zero is for ever, which ends all the same: every fetch has a deadline.
//!
//! # Source
//! F18; fault row 30; Matrix specification v1.19, Server-Server API, "Retrieving server keys", "Validating hashes and
//! signatures on received events", "Request Authentication".

mod checking;
mod config;
mod driver;
mod error;
mod fetching;
mod metrics;
mod own;

use std::rc::Rc;
use std::time::Duration;

use southbridge_bus::keyring::{KeyView, KeyringCounters, Purpose, Wanted};
use southbridge_bus::signing::{RoomVersion, Signer, VerifyKey};
use southbridge_kernel::Kernel;
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::stats::Exposition;
use southbridge_words::{KeyRecord, ServerName};

pub use checking::{IncomingRequest, VerifiedEvent};
pub use config::KeysConfig;
use driver::Inner;
pub use error::VerifyError;
use metrics::Checked;

/// The keys of other homeservers. Cheap to clone; all clones are one. They stay on the I/O thread, and end with their
/// bus.
#[derive(Clone)]
pub struct Keys {
    inner: Rc<Inner>,
}

impl Keys {
    /// The keys as the homeserver of `signer` sees them, fetched by `kernel` from servers that `matrix` finds.
    pub(super) fn new(
        kernel: Kernel,
        matrix: Rc<dyn Discover>,
        signer: Signer,
        config: KeysConfig,
        seed: u64,
    ) -> Self {
        Self { inner: Inner::new(kernel, matrix, signer, config, seed) }
    }

    /// Checks that `event`, of a room of `version`, is signed by everybody who must have signed it, with keys that were
    /// good when it was made, and that its hash fits. Signatures of one server beyond the eighth are not looked at.
    ///
    /// # Errors
    /// [`VerifyError`]: it cannot be read, is not believed, or no key could be had in time.
    pub async fn verify_event(
        &self,
        event: &[u8],
        version: &RoomVersion,
        timeout: Duration,
    ) -> Result<VerifiedEvent, VerifyError> {
        let checking = self.inner.within(timeout, self.inner.check_event(event, version)).await;
        self.inner.count(Checked::Event, checking)
    }

    /// Checks that `signer` signed the JSON object `object` with a key that is good for `purpose`: what it answered just
    /// now ([`Purpose::Request`]), or what it signed then.
    ///
    /// # Errors
    /// As [`Keys::verify_event`].
    pub async fn verify_object(
        &self,
        object: &[u8],
        signer: &ServerName,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<(), VerifyError> {
        let checking = self.inner.within(timeout, self.inner.check_object(object, signer, purpose)).await;
        self.inner.count(Checked::Object, checking)
    }

    /// Checks a request that came in, and says who sent it.
    ///
    /// # Errors
    /// As [`Keys::verify_event`].
    pub async fn verify_request(
        &self,
        request: &IncomingRequest<'_>,
        timeout: Duration,
    ) -> Result<ServerName, VerifyError> {
        let checking = self.inner.within(timeout, self.inner.check_request(request)).await;
        self.inner.count(Checked::Request, checking)
    }

    /// One key of a server, fetched when it is not known.
    ///
    /// # Errors
    /// [`VerifyError::Key`] says why there is none.
    pub async fn key(&self, wanted: Wanted, timeout: Duration) -> Result<VerifyKey, VerifyError> {
        self.inner.within(timeout, self.inner.key(wanted)).await
    }

    /// The keys of `server`, fetched when none is known that is good now.
    ///
    /// # Errors
    /// [`VerifyError::Key`] says why there is none. What was known before is in [`Keys::known`] all the same.
    pub async fn of_server(
        &self,
        server: &ServerName,
        timeout: Duration,
    ) -> Result<Vec<KeyView>, VerifyError> {
        self.inner.within(timeout, self.inner.search(server)).await?;
        Ok(self.known(server))
    }

    /// What is known of the keys of `server`. Asks nobody.
    pub fn known(&self, server: &ServerName) -> Vec<KeyView> {
        self.inner.view(server)
    }

    /// Forgets the keys of `server`, and that it failed; whether anything was known. For operators: what a server is
    /// known to sign with is what keeps a notary from saying otherwise.
    pub fn forget(&self, server: &ServerName) -> bool {
        self.inner.keyring.borrow_mut().forget(server)
    }

    /// Takes in what was kept across a restart.
    pub fn restore(&self, records: Vec<KeyRecord>) {
        self.inner.keyring.borrow_mut().handle_restored(records, self.inner.moment());
    }

    /// What has changed since this was last called, of at most `max` servers, to be kept across a restart.
    pub fn take_changed(&self, max: usize) -> Vec<KeyRecord> {
        let wall = self.inner.kernel.clock().wall();
        self.inner.keyring.borrow_mut().take_changed(max, wall)
    }

    /// What the keyring has done so far, and what it holds.
    pub fn counters(&self) -> KeyringCounters {
        self.inner.keyring.borrow().counters()
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        self.inner.expose(out);
    }

    /// Ends every fetch; whoever waits is told.
    pub(super) fn close(&self) {
        self.inner.close();
    }
}
