//! The table of who obtains what for which tool, and the step from permit to credential.

use std::collections::HashMap;
use std::sync::Arc;

use call::Call;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use policy::Permit;
use tasks::{Access, StoreError, ToolName};

use crate::context::Circumstances;
use crate::credential::Grant;
use crate::credential::has_arguments;
use crate::injection::Lack;
use crate::lease::{self, Asking, Source};
use crate::{ConsentLink, ContextRule, Credential, Injection, Leases, Provider};

/// Which credential a tool takes for an access class.
#[derive(Debug)]
pub struct Binding {
    /// The tool.
    pub tool: ToolName,
    /// The access class.
    pub access: Access,
    /// Who obtains it.
    pub provider: Arc<dyn Provider>,
    /// Where it goes; more than one place where several fields go to several.
    pub injections: Vec<Injection>,
}

/// Gives out credentials, by tool and access class, from leases.
#[derive(Debug)]
pub struct Credentials {
    bound: HashMap<ToolName, Vec<(Access, Vec<Bound>)>>,
    contexts: HashMap<ToolName, ContextRule>,
    no_rule: ContextRule,
    leases: Arc<Leases>,
}

/// A binding with what every call would otherwise work out anew.
#[derive(Debug)]
struct Bound {
    source: Source,
    injections: Arc<[Injection]>,
    bridge: Option<Bridge>,
}

/// The end of a bridge to a legacy key.
#[derive(Clone, Copy, Debug)]
struct Bridge {
    until: Date,
    /// The first second, since the epoch, at which it is over: the end date itself still counts, in UTC.
    over_at: i64,
}

impl Credentials {
    /// Makes the table. A tool without a binding for an access class is called without a credential; of several for one
    /// a call takes all. Leases of before are taken back by it once it [counts](Credentials::take_effect).
    pub fn new(bindings: Vec<Binding>, leases: Arc<Leases>) -> Self {
        let mut bound: HashMap<ToolName, Vec<(Access, Vec<Bound>)>> = HashMap::new();
        for binding in bindings {
            let of_tool = bound.entry(binding.tool).or_default();
            let entry = Bound {
                bridge: binding.provider.bridge_until().map(Bridge::new),
                source: Source::new(binding.provider),
                injections: binding.injections.into(),
            };
            let of_access = of_tool
                .iter_mut()
                .find(|(access, _)| *access == binding.access);
            match of_access {
                Some((_, entries)) => entries.push(entry),
                None => of_tool.push((binding.access, vec![entry])),
            }
        }
        Self {
            bound,
            contexts: HashMap::new(),
            no_rule: ContextRule::default(),
            leases,
        }
    }

    /// Says which circumstances the leases of tools belong to; those of others to none that an agent declares.
    #[must_use]
    pub fn with_contexts(mut self, contexts: HashMap<ToolName, ContextRule>) -> Self {
        self.contexts = contexts;
        self
    }

    /// From now on its providers take back what those of before, or of another run, gave out.
    pub fn take_effect(&self) {
        let all = self.bound.values().flatten();
        let all = all.flat_map(|(_, bound)| bound);
        self.leases.register(all.map(|bound| &bound.source));
    }

    /// Gives out the credential for one permitted call.
    ///
    /// For live leases this reads memory only; else the provider is asked, once for all calls that wait.
    pub async fn issue(&self, permit: Permit) -> Result<Credential, Unavailable> {
        let call = permit.call();
        let bound = self.bound(&call.tool().name, call.access());
        if bound.is_empty() {
            return Ok(Credential::new(permit, Vec::new()));
        }
        let now = lease::now();
        for one in bound {
            one.check_bridge(&call.tool().name, now)?;
            one.check_place(call)?;
        }
        let task = call.task();
        let narrowing = permit.narrowing();
        // Those of now, and not of when the call came: another one may have given the task labels meanwhile.
        let marks = task.marks();
        let tool = call.tool();
        let asking = Asking {
            agent: task.agent().id().as_str(),
            task: task.id(),
            owner: task.owner(),
            tool: &call.tool().name,
            access: call.access(),
            scopes: &narrowing.scopes,
            narrow: &narrowing.narrow,
            circumstances: Circumstances {
                environment: tool.environment.as_deref(),
                owner: task.owner(),
                labels: [task.facts().labels(), &marks],
                client: call.request().client.map(|client| client.ip()),
                declared: &task.declared().context,
                rule: self.contexts.get(&tool.name).unwrap_or(&self.no_rule),
            },
            ttl_seconds: narrowing.ttl_seconds,
            task_expires_at: task.expires_at_epoch(),
            task_ended: &task.ended(),
            cut: &task.cut(),
            decision: permit.id().as_str(),
            proven: Some(task.agent()),
        };
        let mut grants = Vec::with_capacity(bound.len());
        for one in bound {
            grants.push(Grant {
                lease: self.leases.lease(asking, &one.source).await?,
                injections: Arc::clone(&one.injections),
                bridge: one.bridge.is_some(),
            });
        }
        Ok(Credential::new(permit, grants))
    }

    /// The leases.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// Bridges in use, for warnings: tool, access class, end date. By tool and access class.
    pub fn bridges(&self) -> Vec<(ToolName, Access, Date)> {
        let mut bridges: Vec<_> = self
            .bound
            .iter()
            .flat_map(|(tool, of_tool)| {
                let of_access = of_tool.iter();
                of_access.flat_map(move |(access, bound)| {
                    bound.iter().map(move |bound| (tool, access, bound))
                })
            })
            .filter_map(|(tool, access, bound)| Some((tool.clone(), *access, bound.bridge?.until)))
            .collect();
        bridges.sort_unstable();
        bridges
    }

    fn bound(&self, tool: &ToolName, access: Access) -> &[Bound] {
        let of_tool = self.bound.get(tool).map_or([].as_slice(), Vec::as_slice);
        let bound = of_tool.iter().find(|(of, _)| *of == access);
        bound.map_or(&[], |(_, bound)| bound)
    }
}

impl Bound {
    /// Asked before anything is obtained: a call without a place for a secret gets none.
    fn check_place(&self, call: &Call) -> Result<(), Unavailable> {
        let mut injections = self.injections.iter();
        let has_arguments = has_arguments(call);
        if let Some(header) = self.injections.iter().find_map(|one| one.unwanted(call)) {
            return Err(Unavailable::UnwantedHeader {
                tool: call.tool().name.as_str().to_owned(),
                header,
            });
        }
        let lacking = injections.find_map(|one| one.lacks(call).filter(|_| has_arguments));
        match lacking {
            Some(Lack::Body(lacks)) => Err(Unavailable::NoPlace {
                tool: call.tool().name.as_str().to_owned(),
                lacks,
            }),
            Some(Lack::Placeholder(text, count)) => Err(Unavailable::Placeholder {
                tool: call.tool().name.as_str().to_owned(),
                text,
                count,
            }),
            None => Ok(()),
        }
    }

    /// Asked at each call, since a lease may have been obtained before the date.
    fn check_bridge(&self, tool: &ToolName, now: i64) -> Result<(), Unavailable> {
        match self.bridge {
            Some(bridge) if bridge.over_at <= now => Err(Unavailable::BridgeExpired {
                tool: tool.as_str().to_owned(),
                until: bridge.until,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Bridge {
    fn new(until: Date) -> Self {
        let over_at = until
            .tomorrow()
            .and_then(|tomorrow| tomorrow.to_zoned_datetime(TimeZone::UTC))
            .map_or(i64::MAX, |over| over.timestamp().as_second());
        Self { until, over_at }
    }
}

/// No credential could be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The bridge's date is over.
    #[error("bridge of tool `{tool}` ended on {until}")]
    BridgeExpired {
        /// The tool.
        tool: String,
        /// The date.
        until: Date,
    },
    /// The owner of the task has to consent first.
    #[error("owner has not consented to tool `{tool}`")]
    ConsentRequired {
        /// The tool.
        tool: String,
        /// Where it does.
        link: ConsentLink,
    },
    /// The call lacks what the secret goes into.
    #[error("tool `{tool}` takes its key in {lacks}, which the call has not")]
    NoPlace {
        /// The tool.
        tool: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// The call has a header that must not be signed.
    #[error("tool `{tool}` signs no `{header}`, unless `sigv4` lists it in `allow_headers`")]
    UnwantedHeader {
        /// The tool.
        tool: String,
        /// Its name.
        header: String,
    },
    /// The call has not exactly one placeholder.
    #[error("tool `{tool}` takes its key where `{text}` stands, which the call has {count} times")]
    Placeholder {
        /// The tool.
        tool: String,
        /// The placeholder.
        text: String,
        /// How often it stands where it is looked for.
        count: usize,
    },
    /// The provider failed.
    #[error("no credential for tool `{tool}`: {cause}")]
    Provider {
        /// The tool.
        tool: String,
        /// Why; no secret.
        cause: String,
    },
    /// The task ended while the call was on its way.
    #[error("task has ended")]
    TaskEnded,
    /// The ledger could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretRef, Static};

    #[track_caller]
    fn check(until: &str, now: &str, held: bool) {
        let until: Date = until.parse().unwrap();
        let now: jiff::Timestamp = now.parse().unwrap();
        let reference = SecretRef::Env("UNUSED".into());
        let bound = Bound {
            source: Source::new(Arc::new(Static::new(reference, until))),
            injections: Arc::new([]),
            bridge: Some(Bridge::new(until)),
        };
        let checked = bound.check_bridge(&"notes".parse().unwrap(), now.as_second());
        assert_eq!(checked.is_ok(), held, "{until} {now}: {checked:?}");
    }

    #[test]
    fn a_bridge_holds_before_its_date() {
        check("2026-06-30", "2026-06-01T12:00:00Z", true);
    }
    #[test]
    fn a_bridge_holds_through_its_date() {
        check("2026-06-30", "2026-06-30T23:59:59Z", true);
    }
    #[test]
    fn a_bridge_is_over_on_the_next_day() {
        check("2026-06-30", "2026-07-01T00:00:00Z", false);
    }
    #[test]
    fn the_last_date_there_is_never_comes() {
        check("9999-12-31", "2026-07-01T00:00:00Z", true);
    }
}
