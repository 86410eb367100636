package remit.desk_test

called(operation, access, arguments) := {
	"tool": {"name": "desk", "operation": operation, "access": access},
	"task": {"labels": []},
	"request": {"arguments": arguments},
}

test_finding_is_allowed if {
	data.remit.decision.verdict == "allow" with input as called("find_ticket", "read", {"query": "late"})
}

test_the_protocol_is_allowed if {
	data.remit.decision.verdict == "allow" with input as called("initialize", "read", {})
}

test_a_small_refund_is_allowed if {
	data.remit.decision.verdict == "allow" with input as called("refund", "write", {"ticket": "T-1", "amount": 100})
}

test_a_large_refund_is_denied if {
	decision := data.remit.decision with input as called("refund", "write", {"ticket": "T-1", "amount": 100.01})
	decision.verdict == "deny"
	decision.reason == "amount_too_high"
}

test_an_amount_in_text_is_denied if {
	data.remit.decision.verdict == "deny" with input as called("refund", "write", {"ticket": "T-1", "amount": "1"})
}

test_a_refund_without_an_amount_is_denied if {
	data.remit.decision.verdict == "deny" with input as called("refund", "write", {"ticket": "T-1"})
}

test_a_negative_refund_is_not_allowed if {
	not data.remit.decision with input as called("refund", "write", {"ticket": "T-1", "amount": -1})
}

test_purging_is_denied if {
	decision := data.remit.decision with input as called("purge", "execute", {})
	decision.verdict == "deny"
	decision.reason == "purge_forbidden"
}
