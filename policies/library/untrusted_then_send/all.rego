# What came from outside does not go out again: a task that has read something untrusted sends nothing, unless a person agrees.
package remit.all

deny contains {"reason": "untrusted_then_execute", "message": "This task has read what anybody may have written: it executes nothing."} if {
	input.tool.access == "execute"
	tainted
	not trusted
}

escalate contains {"reason": "untrusted_then_send", "message": "This task has read what anybody may have written, and wants to write."} if {
	input.tool.access == "write"
	tainted
	not trusted
}

deny contains {"reason": "confidential_leaves", "message": "This task has read what is confidential: it writes inside alone."} if {
	input.tool.access == "write"
	"confidential" in input.task.labels
	not inside
}

tainted if "untrusted" in input.task.labels

trusted if input.tool.name in data.untrusted_then_send.trusted

inside if input.tool.name in data.untrusted_then_send.inside
