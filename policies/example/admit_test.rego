package remit.admit_test

opening(role, tool) := {
	"operator": {"name": "ops", "role": role},
	"task": {"grants": [{"tool": tool, "access": ["read"]}]},
}

test_an_operator_opens_tasks if {
	data.remit.admission.verdict == "allow" with input as opening("operator", "notes")
}

test_an_orchestrator_opens_tasks if {
	data.remit.admission.verdict == "allow" with input as opening("orchestrator", "notes")
}

test_a_viewer_opens_none if {
	not data.remit.admission with input as opening("viewer", "notes")
}

delegating(parent) := {
	"operator": null,
	"agent": {"id": "triage"},
	"task": {"parent": parent, "grants": [{"tool": "notes", "access": ["read"]}]},
}

test_an_agent_delegates_a_part_of_its_task if {
	data.remit.admission.verdict == "allow" with input as delegating("01939f5e-7c1a-7d2b-8f3e-0123456789ab")
}

test_an_agent_opens_none_of_its_own if {
	not data.remit.admission with input as delegating(null)
}

test_a_closed_tool_is_not_delegated if {
	decision := data.remit.admission with input as opening("operator", "vault")
	decision.verdict == "deny"
	decision.reason == "tool_not_delegable"
}
