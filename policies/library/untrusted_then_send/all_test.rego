package remit.untrusted_then_send_test

call(tool, access, labels) := {"tool": {"name": tool, "access": access}, "task": {"labels": labels}}

lists := {"trusted": ["notes"], "inside": ["notes", "archive"]}

denied(tool, access, labels) := {entry.reason | some entry in found} if {
	found := data.remit.all.deny with input as call(tool, access, labels) with data.untrusted_then_send as lists
}

escalated(tool, access, labels) := {entry.reason | some entry in found} if {
	found := data.remit.all.escalate with input as call(tool, access, labels) with data.untrusted_then_send as lists
}

test_a_clean_task_sends if not "untrusted_then_send" in escalated("mail", "write", [])

test_an_untrusted_one_asks if "untrusted_then_send" in escalated("mail", "write", ["untrusted"])

test_it_reads_on if not "untrusted_then_send" in escalated("mail", "read", ["untrusted"])

test_it_writes_where_that_does_no_harm if not "untrusted_then_send" in escalated("notes", "write", ["untrusted"])

test_it_executes_nothing if "untrusted_then_execute" in denied("shell", "execute", ["untrusted"])

test_a_clean_task_executes if not "untrusted_then_execute" in denied("shell", "execute", [])

test_what_is_confidential_stays_inside if "confidential_leaves" in denied("mail", "write", ["confidential"])

test_inside_it_is_written if not "confidential_leaves" in denied("archive", "write", ["confidential"])
