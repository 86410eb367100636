//! What people consented to: that the gateway has tokens of a server in their name, each for one tool.
//!
//! **Invariant.** A consent is of one owner, for one tool, of one server and for one set of scopes; a call of nobody else
//! is made by it. Its refresh token is in the store, for good, before anybody gets what came with it.

mod asking;
mod id_token;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tasks::{Store, StoreError, Table, ToolName, Write};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use self::asking::Pending;
use crate::oauth::Server;
use crate::{ProviderError, Secret, lease};

pub use asking::{AuthorizationReply, ConsentLink, ConsentQuestion, Unconsented};
pub(crate) use asking::{Flow, Wanted};

/// Every consent of this gateway; outlives a reload.
pub struct Consents {
    store: Arc<dyn Store>,
    given: Mutex<BTreeMap<String, Arc<Given>>>,
    /// Held while a consent takes the place of another, or is taken back.
    changing: tokio::sync::Mutex<()>,
    pending: Mutex<Pending>,
    /// What ended at its server, until it is told.
    untold: Mutex<VecDeque<ConsentView>>,
    told: Notify,
    /// The servers of the configs that count, and of those that are about to, by what a consent is of.
    servers: Mutex<BTreeMap<String, Vec<Weak<Server>>>>,
    /// Where browsers reach the control listener.
    base: RwLock<String>,
}

/// What a consent is of.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Who gives it.
    pub(crate) owner: String,
    /// For which tool.
    pub(crate) tool: ToolName,
    /// A digest of the server, the client, and what is asked for.
    pub(crate) server: String,
}

/// One consent.
#[derive(Debug)]
pub(crate) struct Given {
    id: String,
    subject: Subject,
    host: String,
    scopes: Vec<String>,
    given_at: i64,
    held: tokio::sync::Mutex<Held>,
}

/// Its refresh token, used by one at a time.
#[derive(Debug)]
pub(crate) struct Held {
    token: Secret,
    /// Whether the store has it.
    is_saved: bool,
    is_revoked: bool,
}

/// A consent as the store keeps it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    subject: Subject,
    host: String,
    scopes: Vec<String>,
    given_at: i64,
    /// The refresh token.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    token: Zeroizing<String>,
}

fn write<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn read<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

/// What a consent looks like from outside; the shape of the control API. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsentView {
    /// Its id.
    pub id: String,
    /// Who gave it.
    pub owner: String,
    /// For which tool.
    pub tool: ToolName,
    /// The authorization server's host.
    pub server: String,
    /// The scopes it is for.
    pub scopes: Vec<String>,
    /// RFC 3339.
    pub given_at: String,
}

/// A consent that was taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokedConsent {
    /// Which.
    #[serde(flatten)]
    pub consent: ConsentView,
    /// Whether the server took its token back; else it is dropped here, and lives on there.
    pub taken_back: bool,
}

impl Consents {
    /// Loads all. The store has to be sealed: their refresh tokens are in it.
    ///
    /// # Errors
    /// Where the store fails or holds a record that can't be read.
    pub async fn load(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let mut given = BTreeMap::new();
        for (id, value) in store.scan(Table::Consents).await? {
            let unreadable = |error: &dyn std::fmt::Display| {
                StoreError(format!("consent `{id}` can't be read: {error}"))
            };
            let value = Zeroizing::new(value);
            // No word of an error repeats what it was about.
            let record: Record = serde_json::from_slice(&value)
                .map_err(|error| unreadable(&format_args!("column {}", error.column())))?;
            let token = Secret::new(record.token.as_bytes().to_vec());
            let token = token.map_err(|error| unreadable(&error))?;
            given.insert(id.clone(), Arc::new(Given::new(id, record, token)));
        }
        Ok(Arc::new(Self {
            store,
            given: Mutex::new(given),
            changing: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            untold: Mutex::default(),
            told: Notify::new(),
            servers: Mutex::default(),
            base: RwLock::default(),
        }))
    }

    /// Says where browsers reach the control listener, such as `https://remit.example`.
    pub fn configure(&self, base: &str) {
        base.trim_end_matches('/')
            .clone_into(&mut self.base.write());
    }

    /// All consents, newest first.
    pub fn list(&self) -> Vec<ConsentView> {
        let given = self.given.lock();
        given.values().rev().map(|given| given.view()).collect()
    }

    /// One of them, if it is there.
    pub fn view(&self, id: &str) -> Option<ConsentView> {
        self.given.lock().get(id).map(|given| given.view())
    }

    /// Takes a consent back: nothing is obtained by it any more, and the server is asked to take back its token. None if
    /// there is no such consent.
    ///
    /// The leases that were obtained by it are for [`Leases::conclude_of`](crate::Leases::conclude_of) to end, whatever
    /// comes of this.
    ///
    /// # Errors
    /// Where the store fails: the consent is not used any more, but there again at the next start. It stays listed, to be
    /// taken back once more.
    pub async fn revoke(&self, id: &str) -> Result<Option<RevokedConsent>, StoreError> {
        let changing = self.changing.lock().await;
        let Some(given) = self.given.lock().get(id).cloned() else {
            return Ok(None);
        };
        let all = self.all_of(&given.subject);
        // Whoever uses one just now is waited for, so that the token taken back is the last there is.
        let mut held = hold_all(&all).await;
        for held in &mut held {
            held.is_revoked = true;
        }
        let writes = all.iter().map(|given| delete(given.id.clone()));
        let deleted = self.store.commit(writes.collect()).await;
        if deleted.is_ok() {
            self.drop_all(&all);
        }
        drop(changing);
        let server = self.server(&given.subject);
        let mut taken_back = true;
        for (given, held) in all.iter().zip(&held) {
            taken_back &= take_back(server.as_deref(), given, held).await;
        }
        deleted?;
        Ok(Some(RevokedConsent {
            consent: given.view(),
            taken_back,
        }))
    }

    /// The next consent that its server ended; each is told once. Waits for one.
    ///
    /// The leases that were obtained by it are for [`Leases::conclude_of`](crate::Leases::conclude_of) to end.
    pub async fn next_ended(&self) -> ConsentView {
        loop {
            let ended = self.untold.lock().pop_front();
            if let Some(ended) = ended {
                return ended;
            }
            self.told.notified().await;
        }
    }

    /// Makes a server known, so that what it gave can be taken back.
    pub(crate) fn register(&self, subject: String, server: &Arc<Server>) {
        let mut all = self.servers.lock();
        let servers = all.entry(subject).or_default();
        servers.retain(|server| server.strong_count() > 0);
        servers.push(Arc::downgrade(server));
    }

    /// The server that a consent is of, while it is configured.
    fn server(&self, subject: &Subject) -> Option<Arc<Server>> {
        let all = self.servers.lock();
        // The newest may be of a config that was not applied, and gone by now.
        let mut servers = all.get(&subject.server)?.iter().rev();
        servers.find_map(Weak::upgrade)
    }

    /// The consent to use, if it was given.
    pub(crate) fn find(&self, subject: &Subject) -> Option<Arc<Given>> {
        let given = self.given.lock();
        // The newest counts.
        let mut found = given.values().rev();
        found.find(|given| given.subject == *subject).cloned()
    }

    /// All that are of the same.
    fn all_of(&self, subject: &Subject) -> Vec<Arc<Given>> {
        let given = self.given.lock();
        let all = given.values().filter(|given| given.subject == *subject);
        all.cloned().collect()
    }

    fn drop_all(&self, all: &[Arc<Given>]) {
        let mut given = self.given.lock();
        for each in all {
            given.remove(&each.id);
        }
    }

    /// Writes a new consent down; it takes the place of one that was given before, whose token is taken back.
    async fn keep(
        &self,
        subject: Subject,
        scopes: Vec<String>,
        token: Secret,
        server: &Server,
    ) -> Result<ConsentView, StoreError> {
        let changing = self.changing.lock().await;
        let former = self.all_of(&subject);
        let id = uuid::Uuid::now_v7().to_string();
        let record = Record {
            subject,
            host: server.host(),
            scopes,
            given_at: lease::now(),
            token: Zeroizing::default(),
        };
        let given = Arc::new(Given::new(id, record, token));
        let held = given.held.lock().await;
        // Whoever uses one of before is waited for: what it was given in exchange must not be written after this.
        let mut held_before = hold_all(&former).await;
        let written = async {
            let mut writes = vec![Self::put(&given, &held.token)?];
            writes.extend(former.iter().map(|former| delete(former.id.clone())));
            self.store.commit(writes).await
        };
        if let Err(error) = written.await {
            drop((changing, held_before));
            take_back(Some(server), &given, &held).await;
            return Err(error);
        }
        drop(held);
        for held in &mut held_before {
            held.is_revoked = true;
        }
        self.drop_all(&former);
        let view = given.view();
        self.given.lock().insert(given.id.clone(), given);
        drop(changing);
        for (former, held) in former.iter().zip(&held_before) {
            take_back(Some(server), former, held).await;
        }
        Ok(view)
    }

    /// Replaces a token by the one that the server gave for it. Durable when it returns.
    pub(crate) async fn replace(
        &self,
        given: &Given,
        held: &mut Held,
        token: Secret,
    ) -> Result<(), ProviderError> {
        held.token = token;
        held.is_saved = false;
        self.save(given, held).await
    }

    /// Writes down a token that could not be written before.
    pub(crate) async fn save(&self, given: &Given, held: &mut Held) -> Result<(), ProviderError> {
        if held.is_saved {
            return Ok(());
        }
        let write = Self::put(given, &held.token);
        let saved = match write {
            Ok(write) => self.store.commit(vec![write]).await,
            Err(error) => Err(error),
        };
        saved.map_err(|error| ProviderError::Failed(format!("consent not kept: {error}")))?;
        held.is_saved = true;
        Ok(())
    }

    /// Forgets a consent whose token the server does not take any more.
    pub(crate) async fn forget(&self, given: &Given, held: &mut Held) {
        tracing::info!(consent = %given.id, owner = given.subject.owner, tool = %given.subject.tool, "consent ended at its server");
        held.is_revoked = true;
        self.given.lock().remove(&given.id);
        self.untold.lock().push_back(given.view());
        self.told.notify_one();
        let deleted = self.store.commit(vec![delete(given.id.clone())]).await;
        // Unwritten, it is found at the next start, and forgotten then.
        if let Err(error) = deleted {
            tracing::warn!(%error, consent = %given.id, "consent not taken out of the store");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "to write it to the sealed store")]
    fn put(given: &Given, token: &Secret) -> Result<Write, StoreError> {
        let record = Record {
            subject: given.subject.clone(),
            host: given.host.clone(),
            scopes: given.scopes.clone(),
            given_at: given.given_at,
            token: Zeroizing::new(String::from_utf8_lossy(token.expose()).into_owned()),
        };
        // All the room at once: a buffer that grows leaves copies behind.
        let mut value = Vec::with_capacity(64 * 1024);
        serde_json::to_writer(&mut value, &record).map_err(|error| {
            StoreError(format!("consent `{}` can't be written: {error}", given.id))
        })?;
        Ok(Write::Put {
            table: Table::Consents,
            key: given.id.clone(),
            value,
        })
    }
}

/// Waits until nobody uses them.
async fn hold_all(all: &[Arc<Given>]) -> Vec<tokio::sync::MutexGuard<'_, Held>> {
    let mut held = Vec::with_capacity(all.len());
    for given in all {
        held.push(given.held.lock().await);
    }
    held
}

/// Whether the server took the token of a consent back.
async fn take_back(server: Option<&Server>, given: &Given, held: &Held) -> bool {
    let taken_back = match server {
        Some(server) => server.take_back_refresh(&held.token).await,
        None => Err(ProviderError::Failed(
            "its server is configured no more".into(),
        )),
    };
    if let Err(error) = &taken_back {
        tracing::warn!(consent = %given.id, %error, "token of a consent could not be taken back");
    }
    taken_back.is_ok()
}

fn delete(key: String) -> Write {
    let table = Table::Consents;
    Write::Delete { table, key }
}

impl Given {
    fn new(id: String, record: Record, token: Secret) -> Self {
        Self {
            id,
            subject: record.subject,
            host: record.host,
            scopes: record.scopes,
            given_at: record.given_at,
            held: tokio::sync::Mutex::new(Held {
                token,
                is_saved: true,
                is_revoked: false,
            }),
        }
    }

    /// Its token, for one at a time; none if it was taken back meanwhile.
    pub(crate) async fn hold(&self) -> Option<tokio::sync::MutexGuard<'_, Held>> {
        let held = self.held.lock().await;
        (!held.is_revoked).then_some(held)
    }

    fn view(&self) -> ConsentView {
        ConsentView {
            id: self.id.clone(),
            owner: self.subject.owner.clone(),
            tool: self.subject.tool.clone(),
            server: self.host.clone(),
            scopes: self.scopes.clone(),
            given_at: lease::rfc3339(self.given_at),
        }
    }
}

impl Held {
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }
}

impl std::fmt::Debug for Consents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
