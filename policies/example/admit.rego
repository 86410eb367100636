# Who may open a task, and for what.
package remit.admit

allow if input.operator.role in {"operator", "orchestrator"}

# An agent hands on a part of its task, which is never more than it has.
allow if {
	input.agent.id
	input.task.parent != null
}

deny contains {
	"reason": "tool_not_delegable",
	"message": sprintf("No task is opened for the tool `%v`.", [grant.tool]),
} if {
	some grant in input.task.grants
	grant.tool in data.admission.closed
}
