//! One round: everybody says something, and everybody hears everything.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use southbridge_tests::Result;
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::federation::Federation;
use southbridge_tests::following::Following;
use southbridge_tests::patience::within;

use crate::report::{Row, Usage};
use southbridge_tests::progress::showing;

/// Who is there.
#[derive(Debug)]
pub struct Crowd {
    /// The room.
    pub room: String,
    /// One on each homeserver.
    pub speakers: Vec<ClientApi>,
    /// The same people, in the same order.
    pub listeners: Vec<Following>,
}

/// What happens in one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// A word that begins all its messages.
    pub name: &'static str,
    /// Messages of each speaker.
    pub messages: u32,
    /// How they are said.
    pub pace: Pace,
    /// What happens meanwhile.
    pub upheaval: Upheaval,
}

/// How messages are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One speaker after the other.
    OneByOne,
    /// All speakers at the same time.
    AllAtOnce,
}

/// What happens while messages are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upheaval {
    /// Nothing.
    None,
    /// Every Southbridge is killed in the middle, and started again a second later.
    KillAll,
}

/// Who has heard how much, and when.
#[derive(Debug)]
struct Tally {
    began: Instant,
    expected: usize,
    arrivals: Vec<Duration>,
}

impl Tally {
    fn add(&mut self, arrived: usize) {
        let now = self.began.elapsed();
        self.arrivals.extend(std::iter::repeat_n(now, arrived));
    }

    fn is_half_way(&self) -> bool {
        self.arrivals.len() * 2 >= self.expected
    }
}

impl Round {
    /// Runs the round to its end.
    ///
    /// # Errors
    /// A process fails; messages that do not arrive are no error, but missing in the row.
    pub async fn run(self, federation: &mut Federation, crowd: &mut Crowd) -> Result<Row> {
        let people = crowd.speakers.len();
        let expected = people * (people - 1) * self.messages as usize;
        let before = Usage::of(federation).await?;
        let tally = RefCell::new(Tally { began: Instant::now(), expected, arrivals: Vec::new() });
        let Crowd { room, speakers, listeners } = crowd;
        let own = (people - 1) * self.messages as usize;
        let hearing = try_join_all(
            listeners.iter_mut().enumerate().map(|(index, listener)| self.hear(listener, index, own, &tally)),
        );
        let hearing = async {
            // What has not come by then is reported as missing.
            let _ = within(ROUND_MAX, self.name, hearing).await;
            Ok(())
        };
        let work = async {
            let (said, lost, heard) =
                tokio::join!(self.say(speakers, room), self.upset(federation, &tally), hearing);
            said.and(heard).and(lost)
        };
        let line = || {
            let heard = tally.borrow().arrivals.len();
            format!("{}: {heard} of {expected} messages delivered", self.name)
        };
        let lost: Usage = showing(work, line).await?;
        let used = Usage::of(federation).await?.plus(lost).minus(before);
        let arrivals = tally.into_inner().arrivals;
        Ok(Row { name: self.name, said: people * self.messages as usize, expected, arrivals, used })
    }

    async fn say(self, speakers: &[ClientApi], room: &str) -> Result<()> {
        if self.pace == Pace::AllAtOnce {
            let all = speakers.iter().enumerate().map(|(index, speaker)| async move {
                for number in 0..self.messages {
                    speaker.say(room, &self.words(index, number)).await?;
                }
                Ok(())
            });
            return try_join_all(all).await.map(drop);
        }
        for number in 0..self.messages {
            for (index, speaker) in speakers.iter().enumerate() {
                speaker.say(room, &self.words(index, number)).await?;
            }
        }
        Ok(())
    }

    fn words(self, speaker: usize, number: u32) -> String {
        format!("{} {number} of {speaker}", self.name)
    }

    /// Listens until `expected` messages of others have come.
    async fn hear(
        self,
        listener: &mut Following,
        index: usize,
        expected: usize,
        tally: &RefCell<Tally>,
    ) -> Result<()> {
        let (begin, own) = (format!("{} ", self.name), format!(" of {index}"));
        let mut heard = 0;
        while heard < expected {
            let seen = listener.look_for(LOOK_MS).await?;
            let all =
                seen.words().filter(|words| words.starts_with(&begin) && !words.ends_with(&own)).count();
            tally.borrow_mut().add(all - heard);
            heard = all;
        }
        Ok(())
    }

    /// Does what is to be done in the middle; says what the processes that were lost had used.
    async fn upset(self, federation: &mut Federation, tally: &RefCell<Tally>) -> Result<Usage> {
        if self.upheaval == Upheaval::None {
            return Ok(Usage::default());
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !tally.borrow().is_half_way() {
            ticks.tick().await;
        }
        let lost = Usage::of(federation).await?;
        for home in &mut federation.households {
            home.southbridge.kill()?;
        }
        tokio::time::sleep(DEAD_FOR).await;
        try_join_all(federation.households.iter_mut().map(|home| home.southbridge.start())).await?;
        Ok(lost)
    }
}

/// What is not delivered by then is lost.
const ROUND_MAX: Duration = Duration::from_secs(180);
/// How long one look waits for news.
const LOOK_MS: u64 = 2000;
/// Long enough for messages to pile up at the doors.
const DEAD_FOR: Duration = Duration::from_secs(1);
