//! One user of a homeserver: the few calls of the Client-Server API that the scenarios need.
//!
//! # Source
//! Matrix Client-Server API v1.16.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::failure::{Failure, Result, While};
use crate::following::Following;
use crate::http_client::{Reply, encoded, send};

/// A user who is logged in. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct ClientApi(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    user: String,
    device: String,
    token: String,
    transactions: AtomicU64,
}

impl ClientApi {
    /// The user that a registration or login at `address` has answered with.
    ///
    /// # Errors
    /// A field is missing.
    pub fn of_login(address: SocketAddr, login: &Value) -> Result<Self> {
        let field = |name: &str| text(login, name);
        Ok(Self(Arc::new(Inner {
            address,
            user: field("user_id")?,
            device: field("device_id")?,
            token: field("access_token")?,
            transactions: AtomicU64::new(0),
        })))
    }

    /// Another identity by its token, such as an application service.
    pub fn of_token(address: SocketAddr, user: &str, token: &str) -> Self {
        Self(Arc::new(Inner {
            address,
            user: user.to_owned(),
            device: String::new(),
            token: token.to_owned(),
            transactions: AtomicU64::new(0),
        }))
    }

    /// `@alice:alpha.test`.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The device's id.
    pub fn device(&self) -> &str {
        &self.0.device
    }

    /// Any call; `body` is sent as JSON.
    ///
    /// # Errors
    /// Connection or HTTP failed.
    pub async fn request(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Reply> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("authorization", format!("Bearer {}", self.0.token))
            .header("content-type", "application/json")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .while_doing(target)?;
        send(self.0.address, request).await
    }

    /// A call that must succeed and answer JSON.
    ///
    /// # Errors
    /// It did not.
    pub async fn call(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value> {
        let reply = self.request(method.clone(), target, body).await?;
        reply.json().while_doing(format_args!("{method} {target} of {}", self.user()))
    }

    async fn get(&self, target: &str) -> Result<Value> {
        self.call(Method::GET, target, None).await
    }

    async fn post(&self, target: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, target, Some(body)).await
    }

    async fn put(&self, target: &str, body: &Value) -> Result<Value> {
        self.call(Method::PUT, target, Some(body)).await
    }

    /// Makes a public room with the alias `#alias:` of this server that is in its room list, and says its id.
    ///
    /// # Errors
    /// The server refused.
    pub async fn create_public_room(&self, alias: &str) -> Result<String> {
        let body = json!({
            "preset": "public_chat", "visibility": "public", "room_alias_name": alias, "name": alias,
        });
        text(&self.post("/_matrix/client/v3/createRoom", &body).await?, "room_id")
    }

    /// Joins the room with this alias, and says its id.
    ///
    /// # Errors
    /// The server refused.
    pub async fn join(&self, alias: &str) -> Result<String> {
        let target = format!("/_matrix/client/v3/join/{}", encoded(alias));
        text(&self.post(&target, &json!({})).await?, "room_id")
    }

    /// Says `words` in `room`, and says the event's id.
    ///
    /// # Errors
    /// The server refused.
    pub async fn say(&self, room: &str, words: &str) -> Result<String> {
        let number = self.0.transactions.fetch_add(1, Ordering::Relaxed);
        let target = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{number}", encoded(room));
        text(&self.put(&target, &json!({"msgtype": "m.text", "body": words})).await?, "event_id")
    }

    /// Begins to type in `room`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn type_in(&self, room: &str) -> Result<()> {
        let target = format!("/_matrix/client/v3/rooms/{}/typing/{}", encoded(room), encoded(self.user()));
        self.put(&target, &json!({"typing": true, "timeout": 30_000})).await.map(drop)
    }

    /// Has read `event` in `room`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn read(&self, room: &str, event: &str) -> Result<()> {
        let target = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{}", encoded(room), encoded(event));
        self.post(&target, &json!({})).await.map(drop)
    }

    /// Calls itself `name`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn set_display_name(&self, name: &str) -> Result<()> {
        let target = format!("/_matrix/client/v3/profile/{}/displayname", encoded(self.user()));
        self.put(&target, &json!({"displayname": name})).await.map(drop)
    }

    /// The display name of `user`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn display_name_of(&self, user: &str) -> Result<String> {
        text(&self.get(&format!("/_matrix/client/v3/profile/{}", encoded(user))).await?, "displayname")
    }

    /// Publishes keys of this device. They are made up: servers carry keys and do not look at them.
    ///
    /// # Errors
    /// The server refused.
    pub async fn publish_device_keys(&self) -> Result<String> {
        let (user, device) = (self.user(), self.device());
        let key = format!("made-up-key-of-{device}");
        let body = json!({"device_keys": {
            "user_id": user, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {format!("ed25519:{device}"): key},
            "signatures": {user: {format!("ed25519:{device}"): "made-up-signature"}},
        }});
        self.post("/_matrix/client/v3/keys/upload", &body).await?;
        Ok(key)
    }

    /// What `keys/query` answers for `user`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn keys_of(&self, user: &str) -> Result<Value> {
        self.post("/_matrix/client/v3/keys/query", &json!({"device_keys": {user: []}})).await
    }

    /// Asks for the keys of all `users` at once, and says which homeservers could not be asked.
    ///
    /// # Errors
    /// The server refused.
    pub async fn keys_of_all(&self, users: &[String]) -> Result<Vec<String>> {
        let wanted: serde_json::Map<String, Value> =
            users.iter().map(|user| (user.clone(), json!([]))).collect();
        let answer = self.post("/_matrix/client/v3/keys/query", &json!({"device_keys": wanted})).await?;
        Ok(answer["failures"].as_object().into_iter().flatten().map(|(server, _)| server.clone()).collect())
    }

    /// Sends `content` to a device of each of `users`, as a client does with the keys of an encrypted room.
    ///
    /// # Errors
    /// The server refused.
    pub async fn send_to_devices(&self, users: &[String], content: &Value) -> Result<()> {
        let number = self.0.transactions.fetch_add(1, Ordering::Relaxed);
        let target = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{number}");
        let messages: serde_json::Map<String, Value> =
            users.iter().map(|user| (user.clone(), json!({"DEVICE": content}))).collect();
        self.put(&target, &json!({"messages": messages})).await.map(drop)
    }

    /// The names of the public rooms of `server`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn public_rooms_of(&self, server: &str) -> Result<Vec<String>> {
        let target = format!("/_matrix/client/v3/publicRooms?server={}", encoded(server));
        let answer = self.post(&target, &json!({"limit": 50})).await?;
        let rooms = answer["chunk"].as_array().while_doing("publicRooms")?;
        Ok(rooms.iter().filter_map(|room| room["name"].as_str().map(str::to_owned)).collect())
    }

    /// Uploads a file, and says its `server/media-id`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn upload(&self, name: &str, content_type: &str, content: Bytes) -> Result<String> {
        let target = format!("/_matrix/media/v3/upload?filename={}", encoded(name));
        let request = Request::post(&target)
            .header("authorization", format!("Bearer {}", self.0.token))
            .header("content-type", content_type)
            .body(Full::new(content))
            .while_doing(&target)?;
        let uri = text(&send(self.0.address, request).await?.json().while_doing(&target)?, "content_uri")?;
        let media = uri.strip_prefix("mxc://").while_doing(&uri)?;
        Ok(media.to_owned())
    }

    /// Downloads `server/media-id`. The status is the caller's to judge.
    ///
    /// # Errors
    /// Connection or HTTP failed.
    pub async fn download(&self, media: &str) -> Result<Reply> {
        let target = format!("/_matrix/client/v1/media/download/{media}?timeout_ms=20000");
        self.request(Method::GET, &target, None).await
    }

    /// Sends notifications to `url`.
    ///
    /// # Errors
    /// The server refused.
    pub async fn set_pusher(&self, url: &str) -> Result<()> {
        let body = json!({
            "kind": "http", "app_id": "test.southbridge", "pushkey": "key", "app_display_name": "test",
            "device_display_name": "test", "lang": "en", "data": {"url": url},
        });
        self.post("/_matrix/client/v3/pushers/set", &body).await.map(drop)
    }

    /// Follows what happens from now on.
    ///
    /// # Errors
    /// The first sync failed.
    pub async fn follow(&self) -> Result<Following> {
        Following::from_now(self.clone()).await
    }

    /// One sync; waits up to `timeout_ms` for news.
    pub(crate) async fn sync(&self, since: Option<&str>, timeout_ms: u64) -> Result<Value> {
        let since = since.map(|since| format!("&since={}", encoded(since))).unwrap_or_default();
        let filter = encoded(FILTER);
        self.get(&format!("/_matrix/client/v3/sync?timeout={timeout_ms}&filter={filter}{since}")).await
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let found = value[name].as_str().map(str::to_owned);
    found.ok_or_else(|| Failure::new(format!("no {name:?} in {value}")))
}

/// Everything that was said since the last look, and not only the last ten events.
const FILTER: &str = r#"{"room":{"timeline":{"limit":1000}}}"#;
