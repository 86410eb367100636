package remit.environment_fence_test

refused(tool, task) if {
	found := data.remit.all.deny with input as {"tool": tool, "task": task}
	some entry in found
	entry.reason == "other_environment"
}

test_its_own_environment if not refused({"environment": "prod"}, {"attributes": {"environment": "prod"}})

test_another if refused({"environment": "prod"}, {"attributes": {"environment": "staging"}})

test_a_task_of_none if refused({"environment": "prod"}, {"attributes": {}})

test_a_tool_of_none if refused({"environment": null}, {"attributes": {"environment": "prod"}})

test_neither_has_one if refused({"environment": null}, {"attributes": {"environment": null}})
