# Who may open tasks where the policy itself says nothing: whoever runs or orchestrates them.
package remit.admit

allow if input.operator.role in {"operator", "orchestrator"}
