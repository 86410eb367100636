package remit.desk_test

called(operation, access, arguments) := {
	"tool": {"name": "desk", "operation": operation, "access": access},
	"request": {"arguments": arguments},
}

test_finding_is_allowed if {
	data.remit.decision.verdict == "allow" with input as called("find_ticket", "read", {"query": "lamp"})
}

test_closing_with_a_reason_is_allowed if {
	data.remit.decision.verdict == "allow" with input as called("close_ticket", "write", {"ticket": "T-1", "reason": "solved"})
}

test_closing_without_a_good_reason_is_not if {
	not data.remit.decision with input as called("close_ticket", "write", {"ticket": "T-1", "reason": "bored"})
}

test_purging_is_denied if {
	decision := data.remit.decision with input as called("purge", "execute", {})
	decision.reason == "purge_forbidden"
}
