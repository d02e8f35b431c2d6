//! What the Federation Side Bus sends is taken by an unpatched Synapse from PyPI: PDUs that another Synapse has signed,
//! EDUs of every type; and nothing that is not signed as it should be.

use http::Method;
use serde_json::{Value, json};
use southbridge::Southbridge;
use southbridge::bus::{Acknowledgement, KeysConfig};
use southbridge_bus::externaliser::Hold;
use southbridge_bus::keyring::{First, Notary, Sources};
use southbridge_bus::outgoing::{EduKind, OutgoingPdu};
use southbridge_bus::signing::{Signer, SigningKey, SigningKeys, Verified};
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::failure::While;
use southbridge_tests::federation::{Federation, Plan};
use southbridge_tests::following::Following;
use southbridge_tests::patience::{STEP_MAX, eventually, step, step_within};
use southbridge_tests::side_bus::{Speaker, signer_of, southbridge};
use southbridge_tests::southbridge::DoorKind;
use southbridge_tests::{Failure, Result};
use southbridge_words::Seq;
use tokio::task::LocalSet;

/// Alice's server is cut off from Bob's, and what it signs goes through a bus in its name instead: an event of hers,
/// which Bob's server has no fault to find with, and an EDU of each type. Bob notices all that a user can notice.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn synapse_takes_what_another_synapse_signed_and_edus_of_every_type() {
    in_world(async |world| {
        let World { alice, bob, room, .. } = &world;
        let mut bob_sees = step("Bob watches", bob.follow()).await;
        let mut alpha = step("a bus speaks for alpha", world.speaker(&world.signer)).await;

        let event = step("Alice says hello", alice.say(room, "hello")).await;
        let pdu = step("beta asks alpha for the event", world.fetch(&event)).await;
        step("the event is handed in", alpha.pdu(pdu, BETA)).await;
        step("Bob's server takes the event", alpha.delivered(1)).await;
        step("Bob hears it", bob_sees.until("hello", |seen| seen.said("hello"))).await;

        let edus = edus(alice, bob, room, &event);
        let durable = step("EDUs of every type are handed in", hand_in(&alpha, &edus)).await;
        step("Bob's server takes them", alpha.delivered(durable)).await;
        step("Bob notices them", notice(&mut bob_sees, alice, room, &event)).await;
        step("Alice's keys are known at Bob's server", master_key(alice, bob)).await;
        step("Bob's server says that it knows no such EDU", world.beta_says(UNKNOWN)).await;
    })
    .await;
}

/// A bus speaks for Alice's server with a key that is not its own. Bob's server will have none of it; the queue says why
/// and keeps everything. Who speaks rightly is heard all the same, and with the right key so is that bus.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn synapse_takes_nothing_that_is_signed_with_a_wrong_key() {
    in_world(async |world| {
        let World { alice, bob, room, southbridge, .. } = &world;
        let mut bob_sees = step("Bob watches", bob.follow()).await;
        let alphas_key = world.signer.keys().active().first().expect("it signs").id().clone();
        let another = SigningKeys::of(SigningKey::from_seed(alphas_key, &[66; 32]));
        let another = Signer::new(world.signer.origin().clone(), another);
        let wrong = step("a bus speaks for alpha with a wrong key", world.speaker(&another)).await;

        let event = step("Alice says hello", alice.say(room, "hello")).await;
        let pdu = step("beta asks alpha for the event", world.fetch(&event)).await;
        step("the event is handed in", wrong.pdu(pdu, BETA)).await;
        let message = to_device(alice, bob, "first");
        step("so is a message", wrong.edu("m.direct_to_device", &message, BETA)).await;
        step("Bob's server refuses both", refused(&wrong)).await;

        let mut right = step("another bus has the right key", world.speaker(&world.signer)).await;
        let message = to_device(alice, bob, "second");
        step("a message is handed in there", right.edu("m.direct_to_device", &message, BETA)).await;
        step("Bob's server takes it", right.delivered(1)).await;
        step("Bob gets it", bob_sees.until("a message", |seen| seen.was_sent("second"))).await;
        let seen = step("Bob looks once more", bob_sees.look_for(0)).await;
        assert!(!seen.was_sent("first") && !seen.said("hello"), "a wrong key was believed: {seen:?}");
        step("what was refused is still queued", refused(&wrong)).await;

        let corrected = wrong.sign_with(world.signer.clone(), southbridge, BETA);
        let mut corrected = step("the wrong key is replaced by the right one", corrected).await;
        step("Bob's server takes what it refused", corrected.delivered(2)).await;
        step("Bob hears it", bob_sees.until("hello", |seen| seen.said("hello") && seen.was_sent("first")))
            .await;
    })
    .await;
}

/// A bus that speaks for beta is given an event that alpha's Synapse signed: it fetches alpha's keys from alpha, and the
/// event is believed; changed on the way, it is not. Another bus, for a homeserver of its own, has the keys of beta from
/// alpha, which vouches for them as a notary.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn keys_of_a_synapse_are_fetched_and_what_it_signed_is_believed() {
    in_world(async |world| {
        let World { alice, bob, room, .. } = &world;
        let beta = signer_of(&world.federation.home(1).synapse).expect("Synapse has a key");
        let speaker = step("a bus speaks for beta", world.speaker(&beta)).await;
        let event = step("Alice says hello", alice.say(room, "hello")).await;
        let pdu = step("alpha is asked for the event", speaker.fetch(&event, ALPHA)).await;
        let version = step("the room has a version", room_version(alice, room)).await;
        let verified = step("alpha signed it", speaker.verify(&pdu, &version)).await;
        assert_eq!((verified.event_id.as_str(), verified.verified), (event.as_str(), Verified::Whole));
        assert_eq!(speaker.key_fetches(), (1, 0));
        let text = String::from_utf8(pdu.bytes().to_vec()).expect("JSON");
        let forged = text.replace("\"depth\":", "\"depth\":1");
        let forged = OutgoingPdu::new(forged).expect("an event");
        assert!(speaker.verify(&forged, &version).await.is_err(), "it was changed");

        let event = step("Bob says hello", bob.say(room, "hello")).await;
        let pdu = step("beta is asked for the event", world.speaker(&world.signer)).await;
        let pdu = step("beta gives it", pdu.fetch(&event, BETA)).await;
        let key = world.signer.keys().active().first().expect("it signs");
        let alpha = Notary {
            server: world.signer.origin().clone(),
            keys: vec![(key.id().clone(), key.verify_key())],
        };
        let sources = Sources { first: First::Notaries, notaries: vec![alpha], ..Sources::default() };
        let keys = KeysConfig { sources, ..KeysConfig::default() };
        let opening = Speaker::open_with(&world.southbridge, world.signer.clone(), keys);
        let trusting = step("a bus trusts alpha as a notary", opening).await;
        let verified = step("beta signed it", trusting.verify(&pdu, &version)).await;
        assert_eq!(verified.event_id, event);
        assert_eq!(trusting.key_fetches(), (0, 1));
    })
    .await;
}

/// The version of `room`, as its creation says.
async fn room_version(alice: &ClientApi, room: &str) -> Result<String> {
    let target = format!("/_matrix/client/v3/rooms/{room}/state/m.room.create");
    let content = alice.call(Method::GET, &target, None).await?;
    Ok(content["room_version"].as_str().while_doing("room_version")?.to_owned())
}

/// Alice at alpha.test and Bob at beta.test share a room, and alpha can no longer send by itself.
struct World {
    federation: Federation,
    southbridge: Southbridge,
    /// Signs as alpha does.
    signer: Signer,
    alice: ClientApi,
    bob: ClientApi,
    room: String,
}

async fn in_world(story: impl AsyncFnOnce(World)) {
    LocalSet::new().run_until(async { story(World::new().await).await }).await;
}

impl World {
    async fn new() -> Self {
        let plans = [Plan::new(ALPHA, DoorKind::Unix), Plan::new(BETA, DoorKind::Tcp)];
        let starting = Federation::start(&plans);
        let mut federation = step_within(STEP_MAX * 2, "all processes start", starting).await;
        let alice = step("Alice registers", federation.home(0).synapse.register("alice")).await;
        let bob = step("Bob registers", federation.home(1).synapse.register("bob")).await;
        let room = step("Alice makes a public room", alice.create_public_room("lobby")).await;
        step("Bob joins over federation", bob.join(LOBBY)).await;
        federation.households[0].southbridge.kill().expect("alpha's Southbridge runs");
        let southbridge = southbridge(&federation).expect("Southbridge starts in this process");
        let signer = signer_of(&federation.home(0).synapse).expect("Synapse has a key");
        Self { federation, southbridge, signer, alice, bob, room }
    }

    async fn speaker(&self, signer: &Signer) -> Result<Speaker> {
        Speaker::open(&self.southbridge, signer.clone()).await
    }

    /// The event as alpha gives it to beta, for which a bus asks.
    async fn fetch(&self, event: &str) -> Result<OutgoingPdu> {
        let beta = signer_of(&self.federation.home(1).synapse)?;
        self.speaker(&beta).await?.fetch(event, ALPHA).await
    }

    async fn beta_says(&self, words: &str) -> Result<()> {
        let log = self.federation.home(1).synapse.log();
        eventually(STEP_MAX, words, || async {
            let said = std::fs::read_to_string(&log).while_doing(log.display())?;
            Ok(said.contains(words).then_some(()))
        })
        .await
    }
}

/// One EDU of each kind.
fn edus(alice: &ClientApi, bob: &ClientApi, room: &str, event: &str) -> Vec<(&'static str, Value)> {
    let user = alice.user();
    let presence = json!({
        "user_id": user, "presence": "online", "last_active_ago": 1000, "currently_active": true,
        "status_msg": "on the bus",
    });
    let devices = json!({
        "user_id": user, "device_id": alice.device(), "stream_id": 1000, "prev_id": [], "deleted": false,
        "device_display_name": "by bus",
    });
    let key = |usage: &str| json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{MASTER_KEY}"): MASTER_KEY}});
    vec![
        ("m.typing", json!({"room_id": room, "user_id": user, "typing": true})),
        ("m.presence", json!({"push": [presence]})),
        ("m.receipt", json!({room: {"m.read": {user: {"event_ids": [event], "data": {"ts": 1}}}}})),
        ("m.direct_to_device", to_device(alice, bob, "by bus")),
        ("m.device_list_update", devices),
        ("m.signing_key_update", json!({"user_id": user, "master_key": key("master")})),
        (UNKNOWN, json!({"user_id": user})),
    ]
}

fn to_device(alice: &ClientApi, bob: &ClientApi, words: &str) -> Value {
    json!({
        "sender": alice.user(), "type": "test.southbridge.message", "message_id": words,
        "messages": {bob.user(): {bob.device(): {"body": words}}},
    })
}

/// Says how many of them are durable.
async fn hand_in(bus: &Speaker, edus: &[(&str, Value)]) -> Result<u32> {
    let mut durable = 0;
    for (edu_type, content) in edus {
        let promised = matches!(bus.edu(edu_type, content, BETA).await?, Acknowledgement::Durable(_));
        if promised != EduKind::of(edu_type).is_durable() {
            return Err(Failure::new(format!("{edu_type}: durable is {promised}")));
        }
        durable += u32::from(promised);
    }
    Ok(durable)
}

async fn notice(bob_sees: &mut Following, alice: &ClientApi, room: &str, event: &str) -> Result<()> {
    let user = alice.user();
    bob_sees.until("Alice type", |seen| seen.types(room, user)).await?;
    bob_sees.until("Alice's receipt", |seen| seen.has_read(user, event)).await?;
    bob_sees.until("Alice's presence", |seen| seen.status_of(user) == Some("on the bus")).await?;
    bob_sees.until("Alice's message", |seen| seen.was_sent("by bus")).await
}

/// Nobody but the bus has told Bob's server of that key: Alice's own does not have it.
async fn master_key(alice: &ClientApi, bob: &ClientApi) -> Result<()> {
    eventually(STEP_MAX, "Alice's master key is known", || async {
        let answer = bob.keys_of(alice.user()).await?;
        let known = !answer["master_keys"][alice.user()]["keys"][format!("ed25519:{MASTER_KEY}")].is_null();
        Ok(known.then_some(()))
    })
    .await
}

/// Bob's server has said no, and the queue still has both items.
async fn refused(bus: &Speaker) -> Result<()> {
    let queue = eventually(STEP_MAX, "a refusal", || async {
        Ok(bus.queue(BETA)?.filter(|queue| queue.failures > 0))
    })
    .await?;
    let is_kept = queue.items == 2 && queue.delivered == Seq::default();
    let is_said = matches!(queue.hold, Some(Hold::Unwelcome(401 | 403)));
    (is_kept && is_said).then_some(()).while_doing(format_args!("{queue:?}"))
}

const ALPHA: &str = "alpha.test";
const BETA: &str = "beta.test";
const LOBBY: &str = "#lobby:alpha.test";
const UNKNOWN: &str = "test.southbridge.unknown";
/// The public key of RFC 8032, section 7.1, test 1.
const MASTER_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo";
