package remit.delegation_test

reasons(access, chain) := {entry.reason | some entry in found} if {
	found := data.remit.all.deny with input as {"tool": {"name": "shop", "access": access}, "task": {"chain": chain}}
		with data.delegation as {
			"deepest": {"read": 2, "write": 1},
			"delegators": ["spiffe://example.org/agents/*"],
		}
}

planner := "spiffe://example.org/agents/planner"

writer := "spiffe://example.org/agents/writer"

test_who_delegates_nothing_does_all if {
	every access in {"read", "write", "execute"} {
		not "delegated_too_far" in reasons(access, [])
	}
}

test_a_child_writes if not "delegated_too_far" in reasons("write", [planner])

test_a_grandchild_reads if not "delegated_too_far" in reasons("read", [planner, writer])

test_but_does_not_write if "delegated_too_far" in reasons("write", [planner, writer])

test_what_is_not_named_is_not_delegated if "delegated_too_far" in reasons("execute", [planner])

test_known_agents_delegate if not "may_not_delegate" in reasons("read", [planner, writer])

test_others_do_not if "may_not_delegate" in reasons("read", [planner, "spiffe://elsewhere.example/agents/planner"])
