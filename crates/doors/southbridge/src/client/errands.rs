//! What the client has done on the I/O thread.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use southbridge_kernel::port::{Errand, Gone, Line, Reply, Started};
use southbridge_words::Step;
use url::Url;

use super::cookies::{Jar, WhichCookies};
use super::given::GivenCookie;
use super::incoming::Incoming;
use super::journey::{Arrived, Journey};
use super::keeping::{Wish, Wishing, answer_as_wished};
use super::request::Prepared;
use super::response::Answer;
use super::settings::Settings;
use super::{ClientError, Fed, Flow};
use crate::Southbridge;

/// Asks, and brings the whole response.
pub(super) struct Fetch {
    pub(super) settings: Arc<Settings>,
    pub(super) prepared: Box<Prepared>,
}

impl Errand<Southbridge> for Fetch {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { settings, prepared } = *self;
        let bytes_max = prepared.body_bytes_max;
        let journey = Journey::new(Rc::clone(desk), settings, *prepared);
        line.carry(move |reply| async move { reply.give(fetch(journey, bytes_max).await) })
    }
}

async fn fetch(journey: Box<Journey>, bytes_max: u64) -> Result<Answer, ClientError> {
    let watch = journey.watch();
    let Arrived { mut response, mut incoming } = journey.arrive().await?;
    response.body = incoming.collect(bytes_max).await?;
    response.trailers = incoming.take_trailers();
    response.timing.total = watch.elapsed();
    Ok(Answer::Response(Box::new(response)))
}

/// Asks, answers with the head, and lets the body flow.
pub(super) struct Stream {
    pub(super) settings: Arc<Settings>,
    pub(super) prepared: Box<Prepared>,
    pub(super) flow: Flow,
}

impl Errand<Southbridge> for Stream {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { settings, prepared, flow } = *self;
        let journey = Journey::new(Rc::clone(desk), settings, *prepared);
        line.carry(move |reply| async move { answer_in_pieces(reply, flow, journey.arrive()).await })
    }
}

/// Asks, answers with the head, and does with the body what is then wished for.
pub(super) struct Wished {
    pub(super) stream: Stream,
    pub(super) fed: Fed,
    pub(super) wish: Arc<Wish>,
}

impl Errand<Southbridge> for Wished {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { stream: Stream { settings, prepared, flow }, fed, wish } = *self;
        let wishing = Wishing { fed, wish, files: Rc::clone(desk.files()) };
        let journey = Journey::new(Rc::clone(desk), settings, *prepared);
        line.carry(move |reply| async move {
            let arriving = async { journey.arrive().await.map(|arrived| (arrived, None)) };
            answer_as_wished(reply, flow, wishing, arriving).await;
        })
    }
}

/// Answers with the head of what is `arriving`, and lets its body flow.
pub(crate) async fn answer_in_pieces(
    reply: Reply<Southbridge>,
    mut flow: Flow,
    arriving: impl Future<Output = Result<Arrived, ClientError>>,
) {
    match unless_gone(&flow, arriving).await {
        Err(Gone) => reply.give(Err(ClientError::Cancelled)),
        Ok(Err(error)) => {
            reply.give(Err(error.clone()));
            flow.end(Err(error));
        }
        Ok(Ok(Arrived { response, incoming })) => {
            reply.give(Ok(Answer::Head(Box::new(response))));
            if let Ok(result) = pump(incoming, &mut flow).await {
                flow.end(result);
            }
        }
    }
}

pub(super) type Ended = Result<Option<http::HeaderMap>, ClientError>;

/// Lets `incoming` flow until its end; [`Gone`] when nobody draws any more.
pub(super) async fn pump(mut incoming: Incoming, flow: &mut Flow) -> Result<Ended, Gone> {
    loop {
        let room = incoming.in_time(Step::Body, poll_fn(|cx| flow.poll_room(cx))).await;
        match room {
            Err(error) => return Ok(Err(error)),
            Ok(gone) => gone?,
        }
        match unless_gone(flow, incoming.next()).await? {
            Ok(Some(piece)) => flow.give(piece),
            Ok(None) => return Ok(Ok(incoming.take_trailers())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Does `work` for as long as somebody draws.
pub(super) async fn unless_gone<T>(flow: &Flow, work: impl Future<Output = T>) -> Result<T, Gone> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if flow.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Does something with a client's cookies.
pub(super) struct Cookies {
    pub(super) settings: Arc<Settings>,
    pub(super) what: WithCookies,
}

/// What is done with cookies.
pub(super) enum WithCookies {
    Show,
    Clear(WhichCookies),
    Set { url: Url, line: String },
    Give(Vec<GivenCookie>),
}

impl Errand<Southbridge> for Cookies {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let state = desk.clients().state(&self.settings);
        line.carry(move |reply: Reply<Southbridge>| async move {
            let result = self.what.perform(&mut state.jar.borrow_mut());
            reply.give(result);
        })
    }
}

impl WithCookies {
    fn perform(self, jar: &mut Jar) -> Result<Answer, ClientError> {
        match self {
            Self::Show => return Ok(Answer::Cookies(jar.views())),
            Self::Clear(which) => jar.clear(&which),
            Self::Set { url, line } => {
                jar.set(line.as_bytes(), &url)
                    .map_err(|refused| ClientError::invalid(refused.to_string()))?;
            }
            Self::Give(cookies) => {
                for given in cookies {
                    jar.give(&given).map_err(|refused| {
                        ClientError::invalid(format!("the cookie {:?}: {refused}", given.name))
                    })?;
                }
            }
        }
        Ok(Answer::Done)
    }
}
