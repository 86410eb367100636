//! The answer to the wish to open a task.

use identity::{Agent, Owner};
use serde_json::{Map, Value as Json};
use tasks::{OpenError, Opening, TaskView, Tasks};

/// Who asks to open a task, as admission policy sees it.
#[derive(Clone, Debug)]
pub enum Opener {
    /// `input.operator`.
    Operator {
        /// Its name.
        name: String,
        /// Its role.
        role: String,
    },
    /// `input.agent`: it delegates a part of its own task, or opens one for itself.
    Agent {
        /// The name it goes by.
        id: String,
        /// How it proved itself.
        method: &'static str,
        /// Who vouches for it.
        issuer: String,
        /// The verified claims of its proof.
        claims: Map<String, Json>,
    },
    /// `input.owner`: an agent opens a task on its behalf.
    Owner {
        /// The name that the task's owner has.
        subject: String,
        /// Who vouches for it.
        issuer: String,
        /// The verified claims of its token.
        claims: Map<String, Json>,
        /// The agent.
        actor: Actor,
    },
    /// `input.transaction`: an issuer of transaction tokens opens a task for the agent that brought one.
    Transaction {
        /// The issuer.
        issuer: String,
        /// What it calls the task.
        txn: String,
        /// The verified claims of its token.
        claims: Map<String, Json>,
        /// The agent.
        actor: Actor,
    },
}

/// The agent that acts for an owner or in a transaction, as admission policy sees it.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name it goes by.
    pub id: String,
    /// How it proved itself.
    pub method: &'static str,
    /// Who vouches for it.
    pub issuer: String,
    /// The verified claims of its proof.
    pub claims: Map<String, Json>,
}

impl Actor {
    fn of(agent: &Agent) -> Self {
        Self {
            id: agent.id().as_str().to_owned(),
            method: agent.method().as_str(),
            issuer: agent.issuer().to_owned(),
            claims: agent.claims().clone(),
        }
    }
}

impl Opener {
    /// An owner, and the agent that shows its token.
    pub fn owner(owner: &Owner, actor: &Agent) -> Self {
        Self::Owner {
            subject: owner.name().to_owned(),
            issuer: owner.issuer().to_owned(),
            claims: owner.claims().clone(),
            actor: Actor::of(actor),
        }
    }

    /// The issuer of the transaction token that an agent brought; none where it brought none of another issuer.
    pub fn transaction(actor: &Agent) -> Option<Self> {
        let transaction = actor.transaction()?;
        Some(Self::Transaction {
            issuer: transaction.issuer().to_owned(),
            txn: transaction.txn().to_owned(),
            claims: transaction.claims().clone(),
            actor: Actor::of(actor),
        })
    }

    /// An agent that delegates a part of its own task, or opens one for itself.
    pub fn agent(agent: &Agent) -> Self {
        Self::Agent {
            id: agent.id().as_str().to_owned(),
            method: agent.method().as_str(),
            issuer: agent.issuer().to_owned(),
            claims: agent.claims().clone(),
        }
    }

    /// The name for logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Operator { name, .. } => name,
            Self::Agent { id, .. } => id,
            Self::Owner { subject, .. } => subject,
            Self::Transaction { issuer, .. } => issuer,
        }
    }
}

/// An opening that policy admitted. Only this opens a task.
///
/// ```compile_fail,E0451
/// fn forge(opening: tasks::Opening) -> policy::Admitted {
///     policy::Admitted { opening }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    opening: Opening,
}

impl Admitted {
    pub(crate) fn new(opening: Opening) -> Self {
        Self { opening }
    }

    /// Opens the task.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an admission opens a task"
    )]
    pub async fn open(self, tasks: &Tasks) -> Result<TaskView, OpenError> {
        tasks.open(self.opening).await
    }
}
