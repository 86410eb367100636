# Composes the decision on one call from the called tool's package and `remit.all`.
# Any `deny` wins; `escalate` wins over `allow` until the call is approved; nothing is no.
package remit

decision := answer("deny", denials) if {
	count(denials) > 0
} else := escalation(escalations) if {
	count(escalations) > 0
	not approved
} else := {
	"verdict": "allow",
	"credential": credential,
	"labels": labels,
	"redact": redactions,
	"warnings": warnings,
} if {
	allowed
}

# An approval stands for every `escalate`, and for no `allow`.
approved if input.approval.granted == true

allowed if data.remit.tools[input.tool.name].allow == true

allowed if data.remit.all.allow == true

denials contains entry if some entry in data.remit.tools[input.tool.name].deny

denials contains entry if some entry in data.remit.all.deny

escalations contains entry if some entry in data.remit.tools[input.tool.name].escalate

escalations contains entry if some entry in data.remit.all.escalate

labels contains label if some label in data.remit.tools[input.tool.name].labels

labels contains label if some label in data.remit.all.labels

redactions contains pointer if some pointer in data.remit.tools[input.tool.name].redact

redactions contains pointer if some pointer in data.remit.all.redact

warnings contains warning if some warning in data.remit.tools[input.tool.name].warnings

warnings contains warning if some warning in data.remit.all.warnings

default credential := {}

credential := data.remit.tools[input.tool.name].credential

# An entry is `{"reason": code, "message": text}`, or a code, or a text with spaces.
# One that is neither still denies.
answer(verdict, entries) := {"verdict": verdict, "reason": reason(entry), "message": message(entry)} if {
	entry := [each | some each in entries][0]
}

# Every entry is a demand of its own; one may also say `approvers`.
escalation(entries) := {
	"verdict": "escalate",
	"reason": reason(entry),
	"message": message(entry),
	"approvals": entries,
} if {
	entry := [each | some each in entries][0]
}

reason(entry) := entry if {
	is_string(entry)
	not contains(entry, " ")
} else := entry.reason if {
	is_string(entry.reason)
} else := "unnamed"

message(entry) := entry if {
	is_string(entry)
	contains(entry, " ")
} else := entry.message if {
	is_string(entry.message)
} else := ""
