//! Tokens that a tool gave to an agent: the gateway keeps them, and the agent has phantoms of them.

use std::collections::{HashMap, VecDeque};
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
/// How many are kept for an agent, in all of its tasks; it gets no more then.
const OF_AN_AGENT: usize = 2_048;
/// How many are kept in all.
const IN_ALL: usize = 16_384;
/// How many of one answer are kept: there are two or three.
const OF_AN_ANSWER: usize = 16;
/// The most that a token has, in bytes.
const LONGEST: usize = 16 << 10;

/// The tokens that are kept, in memory alone: by agent, task and tool, until they expire or the task ends.
///
/// **Invariant.** A phantom is worth something to the agent, in the task and at the tool that it was made for, and
/// nothing anywhere else.
#[derive(Debug, Default)]
pub struct Phantoms(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By the digest of the phantom.
    tokens: HashMap<Key, Token>,
    /// Of each task that had one and is not over, those that were kept first come first.
    tasks: HashMap<TaskId, VecDeque<Key>>,
    /// How many each agent has.
    agents: HashMap<String, usize>,
}

/// The digest of a phantom.
type Key = [u8; 32];

#[derive(Debug)]
struct Token {
    whose: Whose,
    material: Arc<Material>,
    /// Seconds since the epoch.
    expires_at: i64,
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
    /// How many it has kept.
    count: usize,
}

/// No more can be kept.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// There is no room.
    #[error("too many tokens of tools are kept already")]
    Full,
    /// Nobody answers so many.
    #[error("the answer has more than 16 tokens")]
    TooMany,
    /// It is none, or a very long one.
    #[error("a token is over 16 KiB")]
    TooLong,
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
            count: 0,
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
    pub fn keep(&mut self, token: &str, lives: Option<i64>) -> Result<String, Unkept> {
        let phantom = call::phantom(&random()?);
        self.keep_as(token, lives, phantom)
    }

    /// Keeps a JWT whose claims the agent may read; answers with a phantom that has them.
    ///
    /// # Errors
    /// As [`Keeper::keep`].
    pub fn keep_claims(&mut self, jwt: &str) -> Result<String, Unkept> {
        let phantom = call::phantom_of_claims(&random()?, jwt);
        self.keep_as(jwt, None, phantom)
    }

    fn keep_as(
        &mut self,
        token: &str,
        lives: Option<i64>,
        phantom: String,
    ) -> Result<String, Unkept> {
        self.count += 1;
        if self.count > OF_AN_ANSWER {
            return Err(Unkept::TooMany);
        }
        if token.len() > LONGEST {
            return Err(Unkept::TooLong);
        }
        let secret = Secret::new(token.as_bytes().to_vec()).map_err(|_| Unkept::Misfit)?;
        let now = now();
        let until = lives.map_or(i64::MAX, |lives| now.saturating_add(lives));
        let token = Token {
            whose: self.whose.clone(),
            material: Arc::new(secret.into()),
            expires_at: until.min(self.task_expires_at),
        };
        if token.is_over(now) {
            // It stands for nothing, as the token would.
            return Ok(phantom);
        }
        let is_first = self.kept.lock().keep(key(&phantom), token, now)?;
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
    /// Keeps one more; answers whether it is the first of its task.
    fn keep(&mut self, key: Key, token: Token, now: i64) -> Result<bool, Unkept> {
        self.make_room(&token.whose, now);
        if !self.has_room(&token.whose.agent) {
            self.remove_if(|token| token.is_over(now));
        }
        if !self.has_room(&token.whose.agent) {
            return Err(Unkept::Full);
        }
        let is_first = !self.tasks.contains_key(&token.whose.task);
        let of_task = self.tasks.entry(token.whose.task.clone()).or_default();
        of_task.push_back(key);
        *self.agents.entry(token.whose.agent.clone()).or_default() += 1;
        self.tokens.insert(key, token);
        Ok(is_first)
    }

    /// Makes room for one more of a task.
    fn make_room(&mut self, whose: &Whose, now: i64) {
        let Some(mut keys) = self.tasks.get_mut(&whose.task).map(std::mem::take) else {
            return;
        };
        keys.retain(|key| {
            let is_over = |token: &Token| token.is_over(now);
            let is_kept = !self.tokens.get(key).is_none_or(is_over);
            if !is_kept {
                self.remove(key);
            }
            is_kept
        });
        while keys.len() >= OF_A_TASK
            && let Some(oldest) = keys.pop_front()
        {
            self.remove(&oldest);
        }
        self.tasks.insert(whose.task.clone(), keys);
    }

    fn has_room(&self, agent: &str) -> bool {
        let of_agent = self.agents.get(agent).copied().unwrap_or_default();
        self.tokens.len() < IN_ALL && of_agent < OF_AN_AGENT
    }

    /// Forgets all that are so; their tasks still list them.
    fn remove_if(&mut self, is_so: impl Fn(&Token) -> bool) {
        let keys = self.tokens.iter().filter(|(_, token)| is_so(token));
        let keys: Vec<Key> = keys.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &Key) {
        let Some(token) = self.tokens.remove(key) else {
            return;
        };
        if let Some(count) = self.agents.get_mut(&token.whose.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.agents.remove(&token.whose.agent);
            }
        }
    }

    /// Forgets a task.
    fn forget(&mut self, task: &TaskId) {
        for key in self.tasks.remove(task).unwrap_or_default() {
            self.remove(&key);
        }
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
        kept.lock().forget(&task);
    }
}

fn key(phantom: &str) -> Key {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn keeper(kept: &Arc<Mutex<Kept>>, agent: &str, task: &TaskId) -> Keeper {
        Keeper {
            kept: Arc::clone(kept),
            whose: Whose {
                agent: agent.to_owned(),
                task: task.clone(),
                tool: "mail".parse().unwrap(),
            },
            task_expires_at: now() + 3600,
            task_ended: CancellationToken::new(),
            count: 0,
        }
    }

    /// Another one each time.
    fn task() -> TaskId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("00000000-0000-4000-8000-{number:012x}");
        text.parse().unwrap()
    }

    fn has(kept: &Mutex<Kept>, phantom: &str) -> bool {
        kept.lock().tokens.contains_key(&key(phantom))
    }

    #[tokio::test]
    async fn the_newest_of_a_task_stay() {
        let (kept, task) = (Arc::default(), task());
        let keep = || keeper(&kept, "a", &task).keep("token", None).unwrap();
        let phantoms: Vec<String> = std::iter::repeat_with(keep).take(OF_A_TASK + 2).collect();
        let [first, second, third, ..] = phantoms.as_slice() else {
            panic!("{phantoms:?}");
        };
        assert!(!has(&kept, first) && !has(&kept, second) && has(&kept, third));
        let kept = kept.lock();
        assert_eq!(kept.tokens.len(), OF_A_TASK);
        assert_eq!(kept.agents.get("a"), Some(&OF_A_TASK));
    }
    #[tokio::test]
    async fn an_agent_has_its_share_and_others_have_theirs() {
        let kept = Arc::default();
        for _ in 0..OF_AN_AGENT / OF_A_TASK {
            let task = task();
            for _ in 0..OF_A_TASK {
                keeper(&kept, "a", &task).keep("token", None).unwrap();
            }
        }
        let task = task();
        let refused = keeper(&kept, "a", &task).keep("token", None);
        assert!(matches!(refused, Err(Unkept::Full)));
        assert!(keeper(&kept, "b", &task).keep("token", None).is_ok());
    }
    #[tokio::test]
    async fn one_task_waits_for_the_end_of_each_that_has_one() {
        let (kept, task) = (Arc::default(), task());
        let waiting = || Arc::weak_count(&kept);
        for lives in [0, -1, i64::MIN] {
            let phantom = keeper(&kept, "a", &task).keep("token", Some(lives));
            assert!(!has(&kept, &phantom.unwrap()));
        }
        assert_eq!(waiting(), 0);
        for _ in 0..5 {
            keeper(&kept, "a", &task).keep("token", Some(60)).unwrap();
        }
        assert_eq!(waiting(), 1);
        kept.lock().forget(&task);
        let kept = kept.lock();
        assert!(kept.tokens.is_empty() && kept.agents.is_empty() && kept.tasks.is_empty());
    }
    #[tokio::test]
    async fn one_answer_fills_no_memory() {
        let (kept, task) = (Arc::default(), task());
        let mut keeper = keeper(&kept, "a", &task);
        let long = keeper.keep(&"x".repeat(LONGEST + 1), None);
        assert!(matches!(long, Err(Unkept::TooLong)));
        for _ in 1..OF_AN_ANSWER {
            keeper.keep(&"x".repeat(LONGEST), None).unwrap();
        }
        assert!(matches!(keeper.keep("x", None), Err(Unkept::TooMany)));
    }
}
