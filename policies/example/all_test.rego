package remit.all_test

test_a_frozen_task_does_nothing if {
	decision := data.remit.decision with input as {
		"tool": {"name": "notes", "operation": "GET /notes", "access": "read"},
		"task": {"labels": ["frozen"]},
		"request": {"arguments": {}},
	}
	decision.verdict == "deny"
	decision.reason == "task_frozen"
}

test_an_unknown_tool_is_not_allowed if {
	not data.remit.decision with input as {
		"tool": {"name": "unknown", "operation": "GET /", "access": "read"},
		"task": {"labels": []},
		"request": {"arguments": {}},
	}
}
