//! Every name that telemetry uses, once.
//!
//! Names without `remit.` are OpenTelemetry's semantic conventions: HTTP as of v1.44.0 (stable), GenAI and
//! MCP as of August 2026 (development). No name is also a prefix of another (`remit.decision.id` beside
//! `remit.decision.outcome`, never `remit.decision`), which the conventions forbid.

/// The instrumentation scope of all signals.
pub const SCOPE: &str = "remit";
/// The event of a decision, in OTLP logs.
pub const EVENT: &str = "remit.decision";
/// The event of what happened to a task.
pub const TASK_EVENT: &str = "remit.task";
/// The event of what was revoked as a whole.
pub const REVOCATION_EVENT: &str = "remit.revocation";
/// The span of the decision.
pub const DECISION_SPAN: &str = "remit.decision";
/// The target of the log line of each call.
pub const LOG_TARGET: &str = "remit::call";

/// The decision's id.
pub const DECISION_ID: &str = "remit.decision.id";
/// `allow`, `deny`, `escalate` or `error`.
pub const DECISION_OUTCOME: &str = "remit.decision.outcome";
/// The policy's reason.
pub const DECISION_REASON: &str = "remit.decision.reason";
/// Why, for operators alone.
pub const DECISION_CAUSE: &str = "remit.decision.cause";
/// The refusal's code.
pub const REFUSAL_CODE: &str = "remit.refusal.code";
/// The approval that was spent on the call, or that it waits for.
pub const APPROVAL_ID: &str = "remit.approval.id";
/// The task.
pub const TASK_ID: &str = "remit.task.id";
/// What happened to the task.
pub const TASK_CHANGE: &str = "remit.task.change";
/// Who did it.
pub const TASK_BY: &str = "remit.task.by";
/// Why it ended.
pub const TASK_ENDING: &str = "remit.task.ending";
/// Its leases that the upstream takes no more.
pub const TASK_LEASES_REVOKED: &str = "remit.task.leases.revoked";
/// Those that could not be revoked: they are used no more, and expire.
pub const TASK_LEASES_NOT_REVOKED: &str = "remit.task.leases.not_revoked";
/// The task that it was delegated from.
pub const TASK_PARENT: &str = "remit.task.parent";
/// The agents that delegated it, the first of all first.
pub const TASK_CHAIN: &str = "remit.task.chain";
/// The revocation of an agent, issuer, tool or owner.
pub const REVOCATION_ID: &str = "remit.revocation.id";
/// `revoked` or `lifted`.
pub const REVOCATION_CHANGE: &str = "remit.revocation.change";
/// `agent`, `issuer`, `tool` or `owner`.
pub const REVOCATION_SUBJECT: &str = "remit.revocation.subject";
/// Its name.
pub const REVOCATION_NAME: &str = "remit.revocation.name";
/// Who did it.
pub const REVOCATION_BY: &str = "remit.revocation.by";
/// Why.
pub const REVOCATION_REASON: &str = "remit.revocation.reason";
/// Whether nothing of it may begin from then on.
pub const REVOCATION_BLOCK: &str = "remit.revocation.block";
/// Until when, RFC 3339.
pub const REVOCATION_UNTIL: &str = "remit.revocation.until";
/// How many tasks ended for it.
pub const REVOCATION_TASKS_ENDED: &str = "remit.revocation.tasks.ended";
/// How many calls were cut for it.
pub const REVOCATION_CALLS_CUT: &str = "remit.revocation.calls.cut";
/// How many of these were not over after a second.
pub const REVOCATION_CALLS_LEFT: &str = "remit.revocation.calls.left";
/// Leases that the upstream takes no more.
pub const REVOCATION_LEASES_REVOKED: &str = "remit.revocation.leases.revoked";
/// Those that could not be revoked: they are used no more, and expire.
pub const REVOCATION_LEASES_NOT_REVOKED: &str = "remit.revocation.leases.not_revoked";
/// The tool, as the config names it.
pub const TOOL_NAME: &str = "remit.tool.name";
/// `read`, `write` or `execute`.
pub const TOOL_ACCESS: &str = "remit.tool.access";
/// The operation.
pub const TOOL_OPERATION: &str = "remit.tool.operation";
/// The tool's environment.
pub const TOOL_ENVIRONMENT: &str = "remit.tool.environment";
/// The policy revision that judged.
pub const POLICY_REVISION: &str = "remit.policy.revision";
/// What policy took, in seconds.
pub const POLICY_TIME: &str = "remit.policy.time";
/// The lease.
pub const LEASE_ID: &str = "remit.lease.id";
/// The other leases of a call that takes more than one.
pub const LEASE_OTHERS: &str = "remit.lease.others";
/// Who issued it.
pub const LEASE_PROVIDER: &str = "remit.lease.provider";
/// Is it a legacy static key?
pub const LEASE_BRIDGE: &str = "remit.lease.bridge";
/// When it expires, RFC 3339.
pub const LEASE_EXPIRES_AT: &str = "remit.lease.expires_at";
/// What obtaining it took, in seconds.
pub const LEASE_TIME: &str = "remit.lease.time";
/// How many keys the agent brought.
pub const KEYS_FOUND: &str = "remit.keys.found";
/// Where they were.
pub const KEYS_PLACES: &str = "remit.keys.places";
/// Who issues such keys.
pub const KEYS_KINDS: &str = "remit.keys.kinds";
/// What became of them.
pub const KEYS_ACTIONS: &str = "remit.keys.actions";
/// Who issues such a key, on metrics.
pub const KEY_KIND: &str = "remit.key.kind";
/// In which part of the call it was, on metrics.
pub const KEY_PLACE: &str = "remit.key.place";
/// What became of it, on metrics.
pub const KEY_ACTION: &str = "remit.key.action";
/// Their fingerprints.
pub const KEYS_FINGERPRINTS: &str = "remit.keys.fingerprints";
/// How often the injected secret was found in the answer, and masked.
pub const SECRETS_SCRUBBED: &str = "remit.secrets.scrubbed";
/// How the agent proved itself.
pub const AGENT_METHOD: &str = "remit.agent.method";
/// How the call ended.
pub const CALL_ENDING: &str = "remit.call.ending";
/// From forwarding to the first byte of the answer, in seconds.
pub const UPSTREAM_TIME: &str = "remit.upstream.time";

/// The owner of the task.
pub const ENDUSER_ID: &str = "enduser.id";
/// Why it failed; absent on success.
pub const ERROR_TYPE: &str = "error.type";
/// The agent.
pub const GEN_AI_AGENT_ID: &str = "gen_ai.agent.id";
/// `execute_tool`.
pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
/// The tool that runs.
pub const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
/// The prompt that is asked for.
pub const GEN_AI_PROMPT_NAME: &str = "gen_ai.prompt.name";
/// The MCP method.
pub const MCP_METHOD_NAME: &str = "mcp.method.name";
/// The MCP session.
pub const MCP_SESSION_ID: &str = "mcp.session.id";
/// The MCP revision.
pub const MCP_PROTOCOL_VERSION: &str = "mcp.protocol.version";
/// The MCP resource.
pub const MCP_RESOURCE_URI: &str = "mcp.resource.uri";
/// The JSON-RPC id.
pub const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
/// The method, `_OTHER` where it isn't a known one.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// The method as it came, where it isn't a known one.
pub const HTTP_REQUEST_METHOD_ORIGINAL: &str = "http.request.method_original";
/// The status.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// The pattern that matched the path.
pub const HTTP_ROUTE: &str = "http.route";
/// Body bytes from the agent.
pub const HTTP_REQUEST_BODY_SIZE: &str = "http.request.body.size";
/// Body bytes to the agent.
pub const HTTP_RESPONSE_BODY_SIZE: &str = "http.response.body.size";
/// The path.
pub const URL_PATH: &str = "url.path";
/// `http` or `https`.
pub const URL_SCHEME: &str = "url.scheme";
/// The URL upstream, without userinfo and query.
pub const URL_FULL: &str = "url.full";
/// `http`.
pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
/// `1.1` or `2`.
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
/// The caller's address.
pub const CLIENT_ADDRESS: &str = "client.address";
/// The caller's port.
pub const CLIENT_PORT: &str = "client.port";
/// The host that was asked.
pub const SERVER_ADDRESS: &str = "server.address";
/// The port that was asked.
pub const SERVER_PORT: &str = "server.port";

/// Counter of calls.
pub const METRIC_CALLS: &str = "remit.calls";
/// Histogram of whole calls, in seconds (semantic conventions).
pub const METRIC_SERVER_DURATION: &str = "http.server.request.duration";
/// Histogram of upstreams' first bytes, in seconds.
pub const METRIC_UPSTREAM_DURATION: &str = "remit.upstream.duration";
/// Histogram of the gateway's own share, in seconds.
pub const METRIC_GATEWAY_DURATION: &str = "remit.gateway.duration";
/// Histogram of decisions, in seconds.
pub const METRIC_POLICY_DURATION: &str = "remit.policy.duration";
/// Counter of keys that agents brought.
pub const METRIC_KEYS_FOUND: &str = "remit.keys.found";
/// Counter of injected secrets that were masked in answers.
pub const METRIC_SECRETS_SCRUBBED: &str = "remit.secrets.scrubbed";
/// Counter of records that an output lost.
pub const METRIC_DROPPED: &str = "remit.telemetry.dropped";
/// Counter of audit lines that couldn't be written.
pub const METRIC_AUDIT_FAILURES: &str = "remit.audit.failures";
/// Counter of reloads.
pub const METRIC_RELOADS: &str = "remit.reload";
/// Counter of attempts to take leases back.
pub const METRIC_LEASE_ENDS: &str = "remit.lease.ends";
/// Counter of signals of identity providers.
pub const METRIC_SIGNALS: &str = "remit.signals";
/// Counter of what was revoked as a whole.
pub const METRIC_REVOCATIONS: &str = "remit.revocations";
/// `{decision}`
pub const METRIC_POLICY_FAILURES: &str = "remit.policy.failures";
/// The rule of a policy that failed.
pub const POLICY_RULE: &str = "remit.policy.rule";
/// How it failed.
pub const POLICY_FAILURE: &str = "remit.policy.failure";
/// The verdict, on metrics.
pub const VERDICT: &str = "remit.verdict";
/// Which output lost records: `traces`, `logs`, `metrics` or `stderr`.
pub const SIGNAL: &str = "remit.signal";
/// `applied` or `failed`.
pub const RESULT: &str = "remit.result";
/// The version of the gateway, on the resource.
pub const SERVICE_VERSION: &str = "service.version";
/// This process, on the resource.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// The methods of RFC 9110, PATCH (RFC 5789) and QUERY; others are `_OTHER`, so that no agent can make
/// a new series of metrics.
pub(crate) fn known_method(method: &str) -> Option<&'static str> {
    const METHODS: [&str; 10] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
    ];
    METHODS.into_iter().find(|known| *known == method)
}

/// `http.request.method` of a method that isn't known.
pub(crate) const OTHER_METHOD: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Quoted names of ours in this file, and names in the registry file.
    fn ours<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
        let names = text
            .lines()
            .filter_map(|line| line.split_once(before)?.1.split(after).next());
        names.filter(|name| name.starts_with("remit.")).collect()
    }

    #[test]
    fn the_registry_file_has_every_name_and_no_other() {
        let registry = include_str!("../registry/remit.yaml");
        let mut told = ours(registry, "- id: ", '\n');
        told.extend(ours(registry, "metric_name: ", '\n'));
        told.extend(ours(registry, " name: ", '\n'));
        assert_eq!(ours(include_str!("names.rs"), "&str = \"", '"'), told);
    }

    #[test]
    fn no_attribute_is_a_prefix_of_another() {
        let registry = include_str!("../registry/remit.yaml");
        let names = ours(registry, "- id: ", '\n');
        for name in &names {
            let space = format!("{name}.");
            assert!(
                !names.iter().any(|other| other.starts_with(&space)),
                "{name}"
            );
        }
    }
}
