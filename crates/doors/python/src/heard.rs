//! What a port knows of exchanges that go in pieces: what was said of each, and who listens.

use pyo3::gc::{PyTraverseError, PyVisit};
use rustc_hash::FxHashMap;
use southbridge_words::Ticket;

use crate::seam::{Answer, Failure, Said};
use crate::waiting::Who;

/// The exchanges of one port that are open.
#[derive(Default)]
pub struct Exchanges {
    open: FxHashMap<Ticket, Heard>,
    listeners: usize,
}

/// What was said of one of them.
#[derive(Default)]
struct Heard {
    answer: Option<Result<Answer, Failure>>,
    is_answered: bool,
    /// Something was said, and nobody listened.
    news: bool,
    who: Option<Who>,
}

/// What came of listening.
pub enum Listening {
    /// `Who` is told of the next thing that is said.
    Begun,
    /// Something was said before: look first.
    NewsThere,
    /// Somebody listens already, and there is one listener.
    Taken,
}

impl Exchanges {
    /// `ticket` is open from now on.
    pub fn open(&mut self, ticket: Ticket) {
        self.open.insert(ticket, Heard::default());
    }

    /// Nobody is interested in `ticket` any more. What is given back is to be dropped without a lock.
    #[must_use = "what is dropped may be Python's, and so is dropped without a lock"]
    pub fn forget(&mut self, ticket: Ticket) -> Option<Who> {
        let who = self.open.remove(&ticket)?.who;
        self.listeners -= usize::from(who.is_some());
        who
    }

    /// Nobody will look after any of them: those without an answer will not get one, and are to be cancelled; whoever
    /// listened is given back, to be dropped without a lock. What has been answered ends with whoever holds it.
    #[must_use = "what is dropped may be Python's, and so is dropped without a lock"]
    pub fn give_up_all(&mut self) -> (Vec<Ticket>, Vec<Who>) {
        let mut unanswered = Vec::new();
        for (ticket, heard) in self.open.iter_mut().filter(|(_, heard)| !heard.is_answered) {
            heard.answer = Some(Err(Failure::Cancelled));
            heard.is_answered = true;
            unanswered.push(*ticket);
        }
        (unanswered, self.clear())
    }

    /// The kernel said something of `ticket`; who listened, and is to be told.
    pub fn hear(&mut self, ticket: Ticket, said: Said) -> Option<Who> {
        let heard = self.open.get_mut(&ticket)?;
        if let Said::Answered(answer) = said {
            heard.answer = Some(answer);
            heard.is_answered = true;
        }
        let who = heard.who.take();
        heard.news = who.is_none();
        self.listeners -= usize::from(who.is_some());
        who
    }

    /// `who` wants to be told of what is said of `ticket` next.
    pub fn listen(&mut self, ticket: Ticket, who: Who) -> Listening {
        let Some(heard) = self.open.get_mut(&ticket) else { return Listening::NewsThere };
        if heard.who.is_some() {
            return Listening::Taken;
        }
        if std::mem::take(&mut heard.news) {
            return Listening::NewsThere;
        }
        heard.who = Some(who);
        self.listeners += 1;
        Listening::Begun
    }

    /// Whoever listened to `ticket` does not any more.
    #[must_use = "what is dropped may be Python's, and so is dropped without a lock"]
    pub fn unlisten(&mut self, ticket: Ticket) -> Option<Who> {
        let who = self.open.get_mut(&ticket)?.who.take();
        self.listeners -= usize::from(who.is_some());
        who
    }

    /// The answer, once.
    pub fn take_answer(&mut self, ticket: Ticket) -> Option<Result<Answer, Failure>> {
        self.open.get_mut(&ticket)?.answer.take()
    }

    /// Whether `ticket` has been answered.
    pub fn is_answered(&self, ticket: Ticket) -> bool {
        self.open.get(&ticket).is_some_and(|heard| heard.is_answered)
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.listeners
    }

    /// Shows the garbage collector what is held.
    pub fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.open.values().filter_map(|heard| heard.who.as_ref()).try_for_each(|who| who.traverse(visit))
    }

    /// Nobody listens any more.
    #[must_use = "what is dropped may be Python's, and so is dropped without a lock"]
    pub fn clear(&mut self) -> Vec<Who> {
        self.listeners = 0;
        self.open.values_mut().filter_map(|heard| heard.who.take()).collect()
    }
}
