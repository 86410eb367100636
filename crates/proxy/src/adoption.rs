//! The first call of a transaction that another issuer vouches for: policy admits its task, which is open before the call
//! goes on.

use std::sync::Arc;

use identity::Agent;
use jiff::Timestamp;
use policy::{Opener, Policy};
use tasks::{Adoption, TaskView, Tasks};
use telemetry::{Recorder, TaskEvent, TaskEventKind};
use tokio::sync::Semaphore;

use crate::Way;
use crate::refusal::Refusal;
use crate::setup::Setup;

/// How many are admitted at once: each takes a thread.
pub(crate) const ADMITTING: usize = 16;

impl Way {
    /// Opens the task of the transaction that an agent brought, if it is another issuer's and was not seen before.
    pub(crate) async fn adopt(&self, setup: &Setup, agent: &Agent) -> Result<(), Refusal> {
        let Some(transaction) = agent.transaction() else {
            return Ok(());
        };
        // One whose own voucher is revoked opens nothing, whoever vouches for the transaction.
        self.tasks.check_proof(agent)?;
        if self.tasks.has_adopted(transaction.key()) {
            return Ok(());
        }
        let (Some(adoption), Some(opener)) = (Adoption::new(agent), Opener::transaction(agent))
        else {
            return Ok(());
        };
        let opening = First {
            adoption,
            opener,
            tasks: Arc::clone(&self.tasks),
            policy: Arc::clone(setup.policy.policy()),
            recorder: self.recorder.clone(),
            admitting: Arc::clone(&self.admitting),
        };
        // By itself: an agent that goes away must not leave a task that is half open.
        let opened = tokio::spawn(opening.open()).await;
        opened.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    }
}

/// The first sight of a transaction.
struct First {
    adoption: Adoption,
    opener: Opener,
    tasks: Arc<Tasks>,
    policy: Arc<Policy>,
    recorder: Recorder,
    admitting: Arc<Semaphore>,
}

impl First {
    /// Opens its task, unless another call was quicker.
    async fn open(self) -> Result<(), Refusal> {
        let Self {
            adoption,
            opener,
            tasks,
            policy,
            recorder,
            admitting,
        } = self;
        let _alone = tasks.turn(&adoption).await;
        if tasks.has_adopted(adoption.key()) {
            return Ok(());
        }
        let opening = tasks.adoption(adoption)?;
        let name = opener.name().to_owned();
        let place = admitting.acquire().await;
        // It waits for a thread with a deadline.
        let admitted = tokio::task::spawn_blocking(move || policy.admit(opening, &opener)).await;
        drop(place);
        let admitted = admitted.map_err(|error| Refusal::Internal(error.to_string()))?;
        let task = admitted.map_err(Refusal::NotAdmitted)?.open(&tasks).await?;
        recorder.task(opened(&task, &name));
        Ok(())
    }
}

fn opened(task: &TaskView, issuer: &str) -> TaskEvent {
    TaskEvent {
        kind: TaskEventKind::Opened,
        at: Timestamp::now(),
        task: task.id.as_str().into(),
        delegated: None,
        agent: task.agent.as_str().into(),
        owner: task.owner.as_str().into(),
        by: Some(issuer.into()),
        approval: None,
        comment: None,
        because: None,
        leases: Vec::new(),
    }
}
