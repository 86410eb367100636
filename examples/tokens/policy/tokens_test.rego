package remit.tokens_test

test_what_reads_is_allowed if {
	every tool in ["mail", "wiki", "ledger", "board", "deploys", "pager"] {
		data.remit.decision.verdict == "allow" with input as {"tool": {"name": tool, "access": "read"}}
	}
}

test_nothing_else_is if {
	not data.remit.tools.mail.allow with input as {"tool": {"name": "mail", "access": "write"}}
}
