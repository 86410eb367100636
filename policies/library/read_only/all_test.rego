package remit.read_only_test

refused(tool) if {
	found := data.remit.all.deny with input as {"tool": tool}
	some entry in found
	entry.reason == "read_only"
}

test_reading_is_not_refused if not refused({"name": "shop", "operation": "GET /a", "access": "read"})

test_writing_is_refused if refused({"name": "shop", "operation": "POST /a", "access": "write"})

test_executing_is_refused if refused({"name": "shop", "operation": "DELETE /a", "access": "execute"})

test_what_has_no_access_is_refused if refused({"name": "shop", "operation": "POST /a"})

test_an_exception_is_not_refused if not refused({"name": "notes", "operation": "POST /notes", "access": "write"})

test_an_exception_of_another_tool_is_refused if refused({"name": "shop", "operation": "POST /notes", "access": "write"})
