package remit.separation_test

reasons(tool, access, granted, history) := {entry.reason | some entry in found} if {
	found := data.remit.all.deny with input as {
		"tool": {"name": tool, "access": access},
		"task": {"grants": [{"tool": tool, "access": granted}, {"tool": "other", "access": ["read", "write", "execute"]}]},
		"history": {"by_access": history},
	}
}

test_a_task_for_executing_executes if not "duties_not_separated" in reasons("shop", "execute", ["read", "execute"], {})

test_a_task_that_may_write_does_not if "duties_not_separated" in reasons("shop", "execute", ["write", "execute"], {})

test_a_task_that_may_write_writes if not "executed_before" in reasons("shop", "write", ["write", "execute"], {"write": 3})

test_but_not_after_it_has_executed if "executed_before" in reasons("shop", "write", ["write"], {"execute": 1})

test_reading_goes_on if {
	found := reasons("shop", "read", ["read", "write", "execute"], {"execute": 1})
	not "executed_before" in found
	not "duties_not_separated" in found
}

test_what_is_exempt_is_not_separated if {
	found := reasons("desk", "execute", ["write", "execute"], {})
	not "duties_not_separated" in found
}

test_nor_stopped_after_it if not "executed_before" in reasons("desk", "write", ["write"], {"execute": 1})
