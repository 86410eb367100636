//! Tokens that a tool gave to an agent: the gateway keeps them, and the agent has phantoms of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use call::Call;
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tasks::{TaskId, ToolName};
use tokio_util::sync::CancellationToken;

use crate::{Injection, Material, Place, Secret};

/// How many are kept for a task; of more, those that were kept first go.
const OF_A_TASK: usize = 64;
/// How many are kept in all; at 16 KiB at most, which few tokens have.
const IN_ALL: usize = 16_384;

/// The tokens that are kept, in memory alone: by agent, task and tool, until they expire or the task ends.
///
/// **Invariant.** A phantom is worth something to the agent, in the task and at the tool that it was made for, and
/// nothing anywhere else.
#[derive(Debug, Default)]
pub struct Phantoms(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By the digest of the phantom.
    tokens: HashMap<[u8; 32], Token>,
    /// How many were kept so far.
    count: u64,
}

#[derive(Debug)]
struct Token {
    whose: Whose,
    material: Arc<Material>,
    /// Seconds since the epoch.
    expires_at: i64,
    number: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Whose {
    agent: String,
    task: TaskId,
    tool: ToolName,
}

/// A token, and where its phantom stood.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) material: Arc<Material>,
    pub(crate) injection: Injection,
}

/// Keeps what one call is answered.
#[derive(Debug)]
pub struct Keeper {
    kept: Arc<Mutex<Kept>>,
    whose: Whose,
    task_expires_at: i64,
    task_ended: CancellationToken,
}

/// No more can be kept.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// There is no room.
    #[error("too many tokens of tools are kept already")]
    Full,
    /// Nobody could send it.
    #[error("a token is empty or holds a line break")]
    Misfit,
    /// The system has no randomness to give.
    #[error("no randomness")]
    NoRandomness,
}

/// A phantom that stands for nothing: it expired, or was another's.
#[derive(Debug, thiserror::Error)]
#[error("what stands for a token of the tool stands for none of this task any more")]
pub struct UnknownPhantom;

impl Phantoms {
    /// Who keeps the tokens that a call is answered.
    pub fn keeper(&self, call: &Call) -> Keeper {
        Keeper {
            kept: Arc::clone(&self.0),
            whose: Whose::of(call),
            task_expires_at: call.task().expires_at_epoch(),
            task_ended: call.task().ended(),
        }
    }

    /// What the phantoms of a call stand for.
    pub(crate) fn restore(&self, call: &Call) -> Result<Vec<Restored>, UnknownPhantom> {
        if call.phantoms().is_empty() {
            return Ok(Vec::new());
        }
        let whose = Whose::of(call);
        let kept = self.0.lock();
        let phantoms = call.phantoms().iter();
        phantoms
            .map(|phantom| {
                let token = kept.tokens.get(&key(&phantom.text));
                let token = token.filter(|token| token.whose == whose && !token.is_over(now()));
                let token = token.ok_or(UnknownPhantom)?;
                let material = Arc::clone(&token.material);
                Ok(Restored {
                    material,
                    injection: Place::from(&phantom.place).into(),
                })
            })
            .collect()
    }
}

impl Whose {
    fn of(call: &Call) -> Self {
        Self {
            agent: call.task().agent().id().as_str().to_owned(),
            task: call.task().id().clone(),
            tool: call.tool().name.clone(),
        }
    }
}

impl Token {
    fn is_over(&self, now: i64) -> bool {
        self.expires_at <= now
    }
}

impl Keeper {
    /// Keeps a token that lives for so many seconds, or as long as the task; answers with its phantom.
    ///
    /// # Errors
    /// [`Unkept`]; then nothing may be answered in its place.
    pub fn keep(&self, token: &str, lives: Option<i64>) -> Result<String, Unkept> {
        let phantom = call::phantom(&random()?);
        self.keep_as(token, lives, phantom)
    }

    /// Keeps a JWT whose claims the agent may read; answers with a phantom that has them.
    ///
    /// # Errors
    /// As [`Keeper::keep`].
    pub fn keep_claims(&self, jwt: &str) -> Result<String, Unkept> {
        let phantom = call::phantom_of_claims(&random()?, jwt);
        self.keep_as(jwt, None, phantom)
    }

    fn keep_as(&self, token: &str, lives: Option<i64>, phantom: String) -> Result<String, Unkept> {
        let secret = Secret::new(token.as_bytes().to_vec()).map_err(|_| Unkept::Misfit)?;
        let now = now();
        let until = lives.map_or(i64::MAX, |lives| now.saturating_add(lives));
        let mut kept = self.kept.lock();
        kept.tokens.retain(|_, token| !token.is_over(now));
        let is_first = !kept.make_room(&self.whose.task);
        if kept.tokens.len() >= IN_ALL {
            return Err(Unkept::Full);
        }
        kept.count += 1;
        let token = Token {
            whose: self.whose.clone(),
            material: Arc::new(secret.into()),
            expires_at: until.min(self.task_expires_at),
            number: kept.count,
        };
        kept.tokens.insert(key(&phantom), token);
        drop(kept);
        if is_first {
            tokio::spawn(forget(
                Arc::downgrade(&self.kept),
                self.whose.task.clone(),
                self.task_ended.clone(),
                self.task_expires_at,
            ));
        }
        Ok(phantom)
    }
}

impl Kept {
    /// Makes room for one more of a task; answers whether it has any.
    fn make_room(&mut self, task: &TaskId) -> bool {
        let own = self
            .tokens
            .iter()
            .filter(|(_, token)| token.whose.task == *task);
        let own: Vec<([u8; 32], u64)> = own.map(|(key, token)| (*key, token.number)).collect();
        if own.len() >= OF_A_TASK
            && let Some((oldest, _)) = own.iter().min_by_key(|(_, number)| *number)
        {
            self.tokens.remove(oldest);
        }
        !own.is_empty()
    }
}

/// Forgets the tokens of a task once it is over.
async fn forget(kept: Weak<Mutex<Kept>>, task: TaskId, ended: CancellationToken, expires_at: i64) {
    let left = u64::try_from(expires_at.saturating_sub(now())).unwrap_or(0);
    // Which of the two it was makes no difference.
    tokio::time::timeout(Duration::from_secs(left), ended.cancelled())
        .await
        .ok();
    if let Some(kept) = kept.upgrade() {
        let mut kept = kept.lock();
        kept.tokens.retain(|_, token| token.whose.task != task);
    }
}

fn key(phantom: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, phantom.as_bytes()).as_ref());
    key
}

fn random() -> Result<String, Unkept> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Unkept::NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
