//! One search for the keys of one server: who waits for it, and who is still to be asked.

use std::collections::VecDeque;

use southbridge_words::{ServerName, Ticket, WallTime};

use super::limits::{First, Sources};
use super::{Purpose, Trouble};
use crate::signing::{ExpiredKey, KeyId, ServerKeys, VerifyKey};

/// A search under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) waiters: Vec<Waiter>,
    /// Those who wait for its end, whatever keys there are.
    pub(super) watchers: Vec<Ticket>,
    /// Notaries that wait for their own keys.
    pub(super) desks: Vec<usize>,
    /// Whether it is one of the refreshes, which are counted.
    pub(super) background: bool,
    /// Whether some source gave keys that are good now.
    pub(super) answered: bool,
    pub(super) trouble: Option<Trouble>,
    ahead: VecDeque<Source>,
    votes: Vec<Vote>,
}

/// Somebody who waits for a key.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) key: KeyId,
    pub(super) purpose: Purpose,
}

/// Who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The server itself.
    Origin,
    /// The notary of that place in the list.
    Notary(usize),
}

/// What notaries said about one key.
#[derive(Debug)]
struct Vote {
    id: KeyId,
    key: VerifyKey,
    notaries: Vec<usize>,
}

impl Flight {
    pub(super) fn new(server: &ServerName, sources: &Sources) -> Self {
        let mut ahead = VecDeque::from([Source::Origin]);
        // A notary is asked about itself at its origin only: two that vouch for one another prove nothing.
        if sources.notaries.iter().all(|notary| notary.server != *server) {
            let notaries = (0..sources.notaries.len()).map(Source::Notary);
            match sources.first {
                First::Origin => ahead.extend(notaries),
                First::Notaries => ahead = notaries.chain([Source::Origin]).collect(),
            }
        }
        Self {
            waiters: Vec::new(),
            watchers: Vec::new(),
            desks: Vec::new(),
            background: false,
            answered: false,
            trouble: None,
            ahead,
            votes: Vec::new(),
        }
    }

    /// Whom to ask next. `None` when nobody is left, or nobody needs to be.
    pub(super) fn next_source(&mut self) -> Option<Source> {
        loop {
            let source = self.ahead.pop_front()?;
            if self.is_worth_asking(source) {
                return Some(source);
            }
        }
    }

    fn is_worth_asking(&self, source: Source) -> bool {
        if !self.answered {
            return self.background
                || !self.waiters.is_empty()
                || !self.watchers.is_empty()
                || !self.desks.is_empty();
        }
        // Keys that are good now have come. A source further on may still know an old one.
        let for_events = self.waiters.iter().any(|waiter| waiter.purpose != Purpose::Request);
        let for_requests = source == Source::Origin && !self.waiters.is_empty();
        for_events || for_requests
    }

    /// Whether everybody was asked who could be.
    pub(super) fn has_asked_all(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Counts what a notary says, and leaves in `answer` what at least `agreement_min` have said.
    pub(super) fn agree(
        &mut self,
        answer: &mut ServerKeys,
        notary: usize,
        agreement_min: usize,
    ) -> Result<(), Trouble> {
        if agreement_min <= 1 {
            return Ok(());
        }
        let listed = answer.current.iter().map(|(id, key)| (id, key));
        let listed = listed.chain(answer.expired.iter().map(|ExpiredKey { id, key, .. }| (id, key)));
        for (id, key) in listed {
            let vote = self.votes.iter_mut().find(|vote| vote.id == *id && vote.key == *key);
            match vote {
                Some(vote) if vote.notaries.contains(&notary) => {}
                Some(vote) => vote.notaries.push(notary),
                None => self.votes.push(Vote { id: id.clone(), key: *key, notaries: vec![notary] }),
            }
        }
        let agreed = |id: &KeyId, key: &VerifyKey| {
            let vote = self.votes.iter().find(|vote| vote.id == *id && vote.key == *key);
            vote.is_some_and(|vote| vote.notaries.len() >= agreement_min)
        };
        answer.current.retain(|(id, key)| agreed(id, key));
        answer.expired.retain(|old| agreed(&old.id, &old.key));
        if answer.current.is_empty() { Err(Trouble::NotariesDisagree) } else { Ok(()) }
    }

    /// What a notary is asked for: the keys that are waited for, and until when they must be valid. Nothing in
    /// particular, when nobody waits.
    pub(super) fn wanted(&self, wall: WallTime) -> Vec<(KeyId, WallTime)> {
        let mut wanted: Vec<(KeyId, WallTime)> = Vec::new();
        for waiter in &self.waiters {
            let valid_until_min = match waiter.purpose {
                Purpose::Request => wall,
                Purpose::Event { signed_at } => signed_at,
                Purpose::EventOfOldRoom => WallTime::default(),
            };
            if let Some((_, most)) = wanted.iter_mut().find(|(id, _)| *id == waiter.key) {
                *most = (*most).max(valid_until_min);
            } else if wanted.len() < WANTED_MAX {
                wanted.push((waiter.key.clone(), valid_until_min));
            }
        }
        wanted
    }
}

/// Keys of one server that a notary is asked for by name. What it answers has them all anyway.
const WANTED_MAX: usize = 16;
