package remit.data_residency_test

refused(tool, class) if {
	found := data.remit.all.deny with input as {"tool": {"name": tool}, "task": {"attributes": {"data_class": class}}}
	some entry in found
	entry.reason == "data_residency"
}

test_personal_data_stays if not refused("crm", "personal")

test_personal_data_does_not_leave if refused("search", "personal")

test_public_data_may_leave if not refused("search", "public")

test_a_tool_without_a_region if refused("new_tool", "public")

test_a_class_that_nobody_named if refused("crm", "secret")

test_a_task_without_a_class if {
	found := data.remit.all.deny with input as {"tool": {"name": "crm"}, "task": {"attributes": {}}}
	some entry in found
	entry.reason == "data_residency"
}
