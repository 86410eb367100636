//! What policy sees and what it answers, as JSON Schema (2020-12): for editors, and for `opa check --schema`.

use serde_json::{Value, json};

/// A document that policy sees or answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Document {
    /// `input` of a call.
    Input,
    /// `input` of a wish to open a task, in `package remit.admit`.
    Admission,
    /// What `data.remit.decision` answers.
    Decision,
}

impl Document {
    /// Its schema.
    pub fn schema(self) -> Value {
        let (title, mut schema) = match self {
            Self::Input => ("input of a call", input()),
            Self::Admission => ("input of a wish to open a task", admission()),
            Self::Decision => ("a decision", decision()),
        };
        if let Some(fields) = schema.as_object_mut() {
            let dialect = "https://json-schema.org/draft/2020-12/schema";
            fields.insert("$schema".to_owned(), dialect.into());
            fields.insert("title".to_owned(), title.into());
        }
        schema
    }
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn optional(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": text(), "description": description })
}

fn by_name(of: &Value, description: &str) -> Value {
    json!({ "type": "object", "additionalProperties": of, "description": description })
}

/// Anything, by name.
fn free(description: &str) -> Value {
    json!({ "type": "object", "description": description })
}

fn count(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

/// An object of these fields, all of which are there.
#[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
fn whole(description: &str, fields: Value) -> Value {
    let names: Vec<&String> = fields
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
        .collect();
    json!({
        "type": "object", "description": description,
        "properties": fields, "required": names, "additionalProperties": false,
    })
}

/// What may be null as a whole.
fn or_null(mut object: Value) -> Value {
    if let Some(kind) = object.get_mut("type") {
        *kind = json!(["object", "null"]);
    }
    object
}

fn access() -> Value {
    json!({ "enum": ["read", "write", "execute"] })
}

fn input() -> Value {
    whole(
        "What policy sees of a call; every field is always there.",
        json!({
            "agent": whole("Who asks.", json!({
                "id": text(),
                "method": json!({ "type": "string", "description": "How it proved itself: `task_token`, `jwt`, …" }),
                "issuer": text(),
                "claims": free("The claims of its token."),
            })),
            "task": whole("For which work.", json!({
                "id": text(),
                "purpose": text(),
                "owner": text(),
                "parent": optional("The task it was delegated from."),
                "chain": texts("The agents it was delegated by."),
                "opened_at": time(),
                "expires_at": time(),
                "grants": json!({ "type": "array", "items": grant() }),
                "limits": free("What it may use up, as the control API writes it; those that there are."),
                "attributes": free("What its opener said of it."),
                "labels": texts("What its calls left on it."),
            })),
            "tool": whole("What is called.", json!({
                "name": text(),
                "protocol": json!({ "type": "string", "description": "`http`, `mcp`, `grpc`" }),
                "operation": json!({ "type": "string", "description": "As the config writes it, or the name of MCP's tool." }),
                "access": access(),
                "environment": optional("Of the config."),
                "attributes": free("Of the config."),
                "labels": texts("Of the config."),
            })),
            "request": whole("The call itself.", json!({
                "method": text(),
                "host": text(),
                "path": text(),
                "segments": texts("The path, decoded, without slashes."),
                "query": by_name(&text(), "Its parameters."),
                "headers": by_name(&text(), "Lower-case names; no keys."),
                "arguments": json!({ "description": "The body or MCP's arguments; an empty object where there are none." }),
                "size": json!({ "type": ["integer", "null"], "description": "Bytes of the body, where it is read." }),
                "streamed": json!({ "type": "boolean", "description": "Whether the body is not read before the decision." }),
            })),
            "client": whole("Who is at the other end of the connection.", json!({ "address": optional("An IP address.") })),
            "declared": whole("What the agent says of its call; nobody vouches for it.", json!({
                "task": optional("A task."),
                "tool": optional("A tool."),
                "operation": optional("An operation."),
                "context": free("Anything."),
            })),
            "history": whole("What the task has done.", json!({
                "calls": count("All."),
                "by_access": by_name(&count("Of one class."), "By access class."),
                "by_tool": by_name(&count("Of one tool."), "By tool."),
                "bytes": count("Bytes of bodies, both ways, where the task limits them."),
                "spent": by_name(&json!({ "type": "number" }), "What they cost, by unit; what is held for those under way included."),
                "resources": texts("What they were made on, where the task limits it."),
                "rest": free("What its limits and those of the tasks above it leave, as the control API writes limits; those that there are."),
                "recent": json!({
                    "type": "array",
                    "description": "The last ones of this task, at most 64, the oldest first; a restart forgets them.",
                    "items": whole("One that was permitted.", json!({
                        "tool": text(),
                        "operation": text(),
                        "access": access(),
                        "labels": texts("What it gave its task."),
                    })),
                }),
            })),
            "approval": or_null(whole("Who approved it, where it was escalated and approved; null otherwise.", json!({
                "granted": json!({ "const": true }),
                "id": text(),
                "by": texts("The names of those who approved it. Sorted."),
                "reason": optional("The code that it was escalated with."),
            }))),
        }),
    )
}

fn grant() -> Value {
    whole(
        "What a task may do.",
        json!({
            "tool": text(),
            "environment": optional("The tool's environment."),
            "access": json!({ "type": "array", "items": access() }),
            "operations": texts("Patterns; empty for all."),
            "arguments": by_name(&condition(), "What arguments must be, by JSON pointer (RFC 6901); the gateway sees to it."),
            "unless_labels": texts("The grant is for tasks without these labels; the gateway sees to it."),
        }),
    )
}

/// One of them.
fn condition() -> Value {
    json!({
        "type": "object", "minProperties": 1, "additionalProperties": false,
        "description": "What one argument must be.",
        "properties": {
            "one_of": json!({ "type": "array", "items": { "type": ["string", "number", "boolean", "null"] } }),
            "pattern": text(),
            "min": json!({ "type": "number" }),
            "max": json!({ "type": "number" }),
            "max_length": count("Characters."),
            "absent": json!({ "const": true }),
        },
    })
}

fn asking_agent(description: &str) -> Value {
    whole(
        description,
        json!({
            "id": text(),
            "method": text(),
            "issuer": text(),
            "claims": free("Of its proof."),
        }),
    )
}

fn admission() -> Value {
    whole(
        "What policy sees of a wish to open a task.",
        json!({
            "operator": json!({ "oneOf": [{ "type": "null" }, whole("Who asks, if it is an operator.", json!({
                "name": text(),
                "role": json!({ "enum": ["viewer", "approver", "orchestrator", "operator"] }),
            }))] }),
            "agent": json!({ "oneOf": [{ "type": "null" }, asking_agent("Who asks, if an agent delegates a part of its task, or opens one for itself: then the task has no parent.")] }),
            "owner": json!({ "oneOf": [{ "type": "null" }, whole("For whom an agent asks, if it shows that person's token.", json!({
                "subject": text(),
                "issuer": text(),
                "claims": free("Of the person's token."),
                "actor": asking_agent("The agent."),
            }))] }),
            "transaction": json!({ "oneOf": [{ "type": "null" }, whole("Who opens a task for an agent, if it is the issuer of the transaction token that the agent brought.", json!({
                "issuer": text(),
                "txn": text(),
                "claims": free("Of the transaction token."),
                "actor": asking_agent("The agent."),
            }))] }),
            "task": json!({
                "type": "object",
                "description": "The wish.",
                "properties": {
                    "agent": text(), "owner": text(), "purpose": text(),
                    "parent": optional("The task it is delegated from."),
                    "chain": texts("The agents it is delegated by."),
                    "cnf": json!({ "type": ["object", "null"], "description": "What its tokens are to be bound to (RFC 7800)." }),
                    "grants": { "type": "array", "items": { "type": "object" } },
                    "limits": free("Its limits."),
                    "ttl_seconds": count("How long it is to live."),
                    "attributes": free("What its opener says of it."),
                    "labels": texts("What it begins with."),
                },
            }),
        }),
    )
}

fn decision() -> Value {
    json!({
        "description": "What `data.remit.decision` answers. Anything else denies.",
        "type": "object",
        "required": ["verdict"],
        "additionalProperties": false,
        "properties": {
            "verdict": { "enum": ["allow", "deny", "escalate"] },
            "reason": { "type": "string", "pattern": "^[a-z0-9_]{1,64}$", "description": "A code, shown to the agent." },
            "message": { "type": "string", "maxLength": 1000, "description": "Shown to the agent." },
            "approvals": {
                "type": "array", "minItems": 1, "maxItems": 20,
                "description": "Of an escalation: what each rule asks for. Every one is to be met.",
                "items": { "anyOf": [text(), approval_entry()] },
            },
            "credential": {
                "type": "object",
                "additionalProperties": false,
                "description": "How the credential is narrowed.",
                "properties": {
                    "scopes": texts("OAuth scopes."),
                    "ttl_seconds": { "type": "integer", "minimum": 1 },
                    "narrow": free("The provider's own."),
                },
            },
            "labels": texts("What the call leaves on its task."),
            "redact": { "type": "array", "items": { "type": "string", "pattern": "^/" }, "description": "JSON pointers." },
            "warnings": texts("For operators."),
        },
    })
}

/// An entry of `escalate` that says who must approve.
fn approval_entry() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "reason": text(),
            "message": text(),
            "approvers": {
                "type": "object",
                "additionalProperties": false,
                "description": "Whose approval counts; everybody's who may approve unless given.",
                "properties": {
                    "names": { "type": "array", "items": text(), "minItems": 1, "maxItems": 100 },
                    "roles": { "type": "array", "items": text(), "minItems": 1, "maxItems": 100 },
                    "count": { "type": "integer", "minimum": 1, "maximum": 20, "description": "How many; one unless given." },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::Document;
    use crate::fields::CALL;

    #[test]
    fn it_has_every_field_that_policy_sees_and_no_other() {
        let schema = Document::Input.schema();
        let groups = schema["properties"].as_object().unwrap();
        let names: Vec<&str> = groups.keys().map(String::as_str).collect();
        let mut known = CALL.map(|(group, _)| group);
        known.sort_unstable();
        assert_eq!(names, known);
        for (group, fields) in CALL {
            let Some(told) = groups[group]["properties"].as_object() else {
                assert!(fields.is_empty(), "{group}");
                continue;
            };
            let told: Vec<&str> = told.keys().map(String::as_str).collect();
            let mut fields = fields.to_vec();
            fields.sort_unstable();
            assert_eq!(told, fields, "{group}");
        }
    }
}
