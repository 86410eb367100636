# Who may open tasks where the policy itself says nothing: whoever runs or orchestrates them.
package remit.admit

allow if input.operator.role in {"operator", "orchestrator"}

# Who works on a task may hand on a part of it, which is never more than it has.
allow if {
	input.agent.id
	input.task.parent != null
}
