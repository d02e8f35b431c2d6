//! Asking origins and notaries, and taking in what they answer.

use southbridge_words::ServerName;

use super::desk::{entries, query};
use super::held::{Learned, Terms, Via};
use super::kept::Change;
use super::{Action, FetchFailure, FetchId, Keyring, Trouble};
use crate::externaliser::Moment;
use crate::signing::{KeyId, ServerKeys, ServerKeysError, VerifyKey};

/// What was asked, of whom.
#[derive(Debug)]
pub(super) enum Fetch {
    /// A server, for its own keys.
    Origin(ServerName),
    /// The notary at that desk, for the keys of these.
    Notary { desk: usize, servers: Vec<ServerName> },
}

impl Keyring {
    /// What came of a fetch: the body of an answer with status 200, or why there is none. Who reports a fetch twice, or
    /// one that was given up, changes nothing.
    pub fn handle_fetched(&mut self, id: FetchId, result: Result<&[u8], FetchFailure>, at: Moment) {
        match self.fetches.remove(&id) {
            None => {}
            Some(Fetch::Origin(server)) => self.on_origin(&server, result, at),
            Some(Fetch::Notary { desk, servers }) => self.on_notary(desk, &servers, result, at),
        }
        while self.deadlines.front().is_some_and(|(_, id)| !self.fetches.contains_key(id)) {
            self.deadlines.pop_front();
        }
    }

    pub(super) fn give_up_overdue(&mut self, at: Moment) {
        while let Some((deadline, id)) = self.deadlines.front().copied()
            && deadline <= at.now
        {
            self.deadlines.pop_front();
            self.handle_fetched(id, Err(FetchFailure::TimedOut), at);
        }
    }

    /// Asks as many origins as may be asked at once.
    pub(super) fn pump_origins(&mut self, at: Moment) {
        while self.origins < self.limits.origin_fetches_max
            && let Some(server) = self.queue.pop_front()
        {
            self.origins += 1;
            self.counters.origin_fetches += 1;
            let id = self.fetch(Fetch::Origin(server.clone()), at);
            let bytes_max = self.limits.origin_bytes_max;
            self.actions.push_back(Action::FetchOrigin { id, server, bytes_max });
        }
    }

    fn on_origin(&mut self, server: &ServerName, result: Result<&[u8], FetchFailure>, at: Moment) {
        self.origins -= 1;
        let result = bounded(result, self.limits.origin_bytes_max);
        let learned = result.and_then(|body| {
            let answer = ServerKeys::parse(body, server, self.limits.keys_per_server_max)?;
            self.learn(server, &answer, Via::Origin, at)
        });
        self.on_answer(server, learned, at);
        self.pump_origins(at);
    }

    /// Asks a notary about `server`, with what else there is to ask it.
    pub(super) fn ask_notary(&mut self, desk: usize, server: &ServerName, at: Moment) {
        if at.now < self.desks[desk].retry_at {
            self.note_first_trouble(server, Trouble::NotaryFailing);
            self.advance(server, at);
        } else {
            self.desks[desk].gathered.push_back(server.clone());
            self.pump_desk(desk, at);
        }
    }

    /// Sends what is gathered at a desk, as far as it may. Without the notary's keys its answers would be worth nothing,
    /// so those come first.
    fn pump_desk(&mut self, desk: usize, at: Moment) {
        if !self.desks[desk].gathered.is_empty() && self.keys_of_notary(desk, at).is_empty() {
            self.search_notary(desk, at);
            return;
        }
        while self.desks[desk].under_way < self.limits.batches_max && !self.desks[desk].gathered.is_empty() {
            let servers = self.desks[desk].take_batch(self.limits.batch_max);
            let wanted = |server| self.flights.get(server).map(|flight| flight.wanted(at.wall));
            let body = query(servers.iter().map(|server| (server, wanted(server).unwrap_or_default())));
            self.counters.notary_fetches += 1;
            let notary = self.desks[desk].notary.server.clone();
            let id = self.fetch(Fetch::Notary { desk, servers }, at);
            let bytes_max = self.limits.notary_bytes_max;
            self.actions.push_back(Action::FetchNotary { id, notary, body, bytes_max });
        }
    }

    /// Fetches the keys of the notary itself.
    fn search_notary(&mut self, desk: usize, at: Moment) {
        if self.desks[desk].awaits_keys {
            return;
        }
        let notary = self.desks[desk].notary.server.clone();
        let failing = self.shelf.get(&notary).and_then(|held| held.failing.as_ref());
        if let Some(flight) = self.flights.get_mut(&notary) {
            self.desks[desk].awaits_keys = true;
            flight.desks.push(desk);
        } else if failing.is_some_and(|failing| at.now < failing.retry_at) {
            self.on_notary_failed(desk, &Trouble::NotaryUnknown, at);
        } else {
            self.desks[desk].awaits_keys = true;
            self.search(&notary, |flight| flight.desks.push(desk), at);
        }
    }

    /// The search for a notary's own keys has ended.
    pub(super) fn on_notary_searched(&mut self, desk: usize, at: Moment) {
        self.desks[desk].awaits_keys = false;
        if self.keys_of_notary(desk, at).is_empty() {
            self.on_notary_failed(desk, &Trouble::NotaryUnknown, at);
        } else {
            self.pump_desk(desk, at);
        }
    }

    /// The notary is left alone for a while; who wanted something of it turns to the next.
    fn on_notary_failed(&mut self, desk: usize, trouble: &Trouble, at: Moment) {
        let failures = self.desks[desk].failures.saturating_add(1);
        let retry_at = at.now + self.pause(failures);
        let desk = &mut self.desks[desk];
        (desk.failures, desk.retry_at) = (failures, retry_at);
        for server in std::mem::take(&mut desk.gathered) {
            self.note_first_trouble(&server, trouble.clone());
            self.advance(&server, at);
        }
    }

    fn on_notary(
        &mut self,
        desk: usize,
        servers: &[ServerName],
        result: Result<&[u8], FetchFailure>,
        at: Moment,
    ) {
        self.desks[desk].under_way -= 1;
        let answer = bounded(result, self.limits.notary_bytes_max)
            .and_then(|body| entries(body, servers).ok_or(Trouble::NotBelieved(ServerKeysError::Malformed)));
        match answer {
            Ok(entries) => {
                self.desks[desk].failures = 0;
                let keys = self.keys_of_notary(desk, at);
                for server in servers {
                    let of_server = entries.iter().filter(|(of, _)| of == server).map(|(_, entry)| *entry);
                    let learned = self.learn_of_notary(server, desk, &keys, of_server, at);
                    self.on_answer(server, learned, at);
                }
            }
            Err(trouble) => {
                if trouble != Trouble::Fetch(FetchFailure::Overloaded) {
                    self.on_notary_failed(desk, &trouble, at);
                }
                for server in servers {
                    self.on_answer(server, Err(trouble.clone()), at);
                }
            }
        }
        self.pump_desk(desk, at);
    }

    /// Takes in what a notary says of one server: the best of its entries decides what came of it.
    fn learn_of_notary<'b>(
        &mut self,
        server: &ServerName,
        desk: usize,
        keys: &[(KeyId, VerifyKey)],
        entries: impl Iterator<Item = &'b [u8]>,
        at: Moment,
    ) -> Result<Learned, Trouble> {
        let mut best = Err(Trouble::NotAnswered);
        for entry in entries {
            let learned = self.learn_entry(server, desk, keys, entry, at);
            match (&best, &learned) {
                (Ok(Learned::Good { .. }), _) | (Ok(_), Err(_)) => {}
                _ => best = learned,
            }
        }
        best
    }

    fn learn_entry(
        &mut self,
        server: &ServerName,
        desk: usize,
        keys: &[(KeyId, VerifyKey)],
        entry: &[u8],
        at: Moment,
    ) -> Result<Learned, Trouble> {
        let mut answer = ServerKeys::parse(entry, server, self.limits.keys_per_server_max)?;
        answer.verify_notary(server, &self.desks[desk].notary.server, keys)?;
        let agreement_min = self.sources.agreement_min;
        if let Some(flight) = self.flights.get_mut(server) {
            flight.agree(&mut answer, desk, agreement_min)?;
        }
        let signing = self.shelf.get(server).map(|held| held.signing(at)).unwrap_or_default();
        if agreement_min <= 1 && !signing.is_empty() && !answer.is_signed_by(server, &signing) {
            return Err(Trouble::NotContinued);
        }
        self.learn(server, &answer, Via::Notary, at)
    }

    fn learn(
        &mut self,
        server: &ServerName,
        answer: &ServerKeys,
        via: Via,
        at: Moment,
    ) -> Result<Learned, Trouble> {
        let terms =
            Terms { believed_max: self.limits.believed_max, keys_max: self.limits.keys_per_server_max };
        // Half its life, and not all servers that were met together at the same time.
        let (share, soonest) = (self.seeded.factor(0.45, 0.55), self.limits.again_min);
        let learned = self.shelf.change(server, |held| {
            let learned = held.learn(answer, via, terms, at);
            if let Learned::Good { lifetime } = learned {
                held.refresh_at = at.now + lifetime.mul_f64(share).max(soonest);
            }
            learned
        });
        self.note_change(server, Change::Learned);
        Ok(learned)
    }

    /// A source has been asked about `server`; who waits is answered, or the next source asked.
    fn on_answer(&mut self, server: &ServerName, learned: Result<Learned, Trouble>, at: Moment) {
        if let Err(Trouble::NotBelieved(_) | Trouble::NotContinued | Trouble::NotariesDisagree) = learned {
            self.counters.not_believed += 1;
        }
        if let Some(flight) = self.flights.get_mut(server) {
            match learned {
                Ok(Learned::Good { .. }) => flight.answered = true,
                Ok(Learned::Past) => flight.trouble = Some(Trouble::Expired),
                Err(Trouble::Fetch(FetchFailure::Overloaded)) => {}
                Err(trouble) => flight.trouble = Some(trouble),
            }
        }
        self.answer_waiters(server, at);
        self.advance(server, at);
    }

    /// Trouble that says less than what another source said does not replace it.
    fn note_first_trouble(&mut self, server: &ServerName, trouble: Trouble) {
        if let Some(flight) = self.flights.get_mut(server)
            && flight.trouble.is_none()
        {
            flight.trouble = Some(trouble);
        }
    }

    /// The keys with which the notary of that desk signs, as far as they are known.
    fn keys_of_notary(&self, desk: usize, at: Moment) -> Vec<(KeyId, VerifyKey)> {
        let notary = &self.desks[desk].notary;
        if !notary.keys.is_empty() {
            return notary.keys.clone();
        }
        self.shelf.get(&notary.server).map(|held| held.signing(at)).unwrap_or_default()
    }

    fn fetch(&mut self, fetch: Fetch, at: Moment) -> FetchId {
        let id = FetchId(self.next_fetch);
        self.next_fetch += 1;
        self.deadlines.push_back((at.now + self.limits.fetch_max, id));
        self.fetches.insert(id, fetch);
        id
    }
}

fn bounded(result: Result<&[u8], FetchFailure>, bytes_max: usize) -> Result<&[u8], Trouble> {
    match result {
        Ok(body) if body.len() > bytes_max => Err(FetchFailure::TooLarge.into()),
        Ok(body) => Ok(body),
        Err(failure) => Err(failure.into()),
    }
}
