//! Checking what somebody signed.
//!
//! What is read to find out whose keys are needed is let go of while they are fetched, and read again then: a thousand
//! events of dead servers hold no more than their text.

use std::pin::pin;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{select_ok, try_join_all};
use southbridge_bus::keyring::{Purpose, Wanted};
use southbridge_bus::signing::{
    Event, KeyId, Numbers, RoomVersion, SignedJson, Verified, VerifyKey, XMatrix, to_canonical,
};
use southbridge_words::ServerName;

use super::VerifyError;
use super::driver::Inner;

/// An event that was signed as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEvent {
    /// Its id.
    pub event_id: String,
    /// Whether its hash fits as well.
    pub verified: Verified,
}

/// A request that came in, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct IncomingRequest<'r> {
    /// The value of its `Authorization`. One that is signed with several keys has several: one that fits is enough.
    pub authorization: &'r [u8],
    /// The method, as in the request line.
    pub method: &'r str,
    /// Path and query, as in the request line.
    pub uri: &'r str,
    /// The body, where there is one.
    pub content: Option<&'r [u8]>,
}

/// A server that must have signed, and the names of the keys it says to have signed with.
type Signing = (ServerName, Vec<KeyId>);
/// A key of each of them that is good.
type Found = Vec<(ServerName, KeyId, VerifyKey)>;

impl Inner {
    pub(super) async fn check_event(
        self: &Rc<Self>,
        text: &[u8],
        version: &RoomVersion,
    ) -> Result<VerifiedEvent, VerifyError> {
        let turn = self.turn().await;
        let event = Event::parse(text, version)?;
        let purpose = match version.enforces_key_validity() {
            true => Purpose::Event { signed_at: event.made_at()? },
            false => Purpose::EventOfOldRoom,
        };
        let mut gathering = pin!(self.gather(event.signing_keys()?, purpose));
        if let Some(keys) = gathering.as_mut().now_or_never() {
            return finish(&event, &keys?);
        }
        drop((event, turn));
        let keys = gathering.await?;
        let _turn = self.turn().await;
        finish(&Event::parse(text, version)?, &keys)
    }

    pub(super) async fn check_object(
        self: &Rc<Self>,
        text: &[u8],
        signer: &ServerName,
        purpose: Purpose,
    ) -> Result<(), VerifyError> {
        let signed = {
            let _turn = self.turn().await;
            SignedJson::parse(text)?
        };
        let ids = signed.keys_of(signer.as_str()).take(Event::KEYS_PER_SIGNER_MAX).cloned().collect();
        let keys = self.gather(vec![(signer.clone(), ids)], purpose).await?;
        let _turn = self.turn().await;
        for (server, id, key) in keys {
            signed.verify(server.as_str(), &id, &key)?;
        }
        Ok(())
    }

    pub(super) async fn check_request(
        self: &Rc<Self>,
        request: &IncomingRequest<'_>,
    ) -> Result<ServerName, VerifyError> {
        let shown = XMatrix::parse(request.authorization)?;
        let wanted =
            Wanted { server: shown.origin.clone(), key: shown.key.clone(), purpose: Purpose::Request };
        let key = self.key(wanted).await?;
        let _turn = self.turn().await;
        let canonical = |content| to_canonical(content, Numbers::AsPython);
        let content = request.content.map(canonical).transpose();
        let content = content.map_err(southbridge_bus::signing::SignedJsonError::from)?;
        shown.verify(request.method, request.uri, self.signer.origin(), content.as_ref(), &key)?;
        Ok(shown.origin)
    }

    /// A key of each of `signers` that is good for `purpose`: the first that is found.
    async fn gather(self: &Rc<Self>, signers: Vec<Signing>, purpose: Purpose) -> Result<Found, VerifyError> {
        try_join_all(signers.into_iter().map(|(server, ids)| self.find(server, ids, purpose))).await
    }

    async fn find(
        self: &Rc<Self>,
        server: ServerName,
        ids: Vec<KeyId>,
        purpose: Purpose,
    ) -> Result<(ServerName, KeyId, VerifyKey), VerifyError> {
        if ids.is_empty() {
            return Err(VerifyError::NotSigned { server });
        }
        let asking = ids.into_iter().map(|id| {
            let wanted = Wanted { server: server.clone(), key: id.clone(), purpose };
            Box::pin(async move { Ok::<_, VerifyError>((id, self.key(wanted).await?)) })
        });
        let ((id, key), _others) = select_ok(asking).await?;
        Ok((server, id, key))
    }

    /// Waits for its turn to use the processor, and lets everybody else have theirs first.
    async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok();
        tokio::task::yield_now().await;
        turn
    }
}

fn finish(event: &Event<'_>, keys: &Found) -> Result<VerifiedEvent, VerifyError> {
    let verified = event.verify(|server, id| {
        let of_server = keys.iter().find(|(known, key_id, _)| known == server && key_id == id);
        of_server.map(|(.., key)| *key)
    })?;
    Ok(VerifiedEvent { event_id: event.event_id()?, verified })
}
