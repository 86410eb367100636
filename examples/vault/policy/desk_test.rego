package remit.desk_test

call(tool, purpose) := {
	"task": {"purpose": purpose},
	"tool": {"name": tool, "operation": "GET /orders", "access": "read"},
}

test_looking_is_allowed if {
	data.remit.decision.verdict == "allow" with input as call("shop", "look")
}

test_a_return_is_the_work_of_a_clerk if {
	decision := data.remit.decision with input as call("desk", "return of order 1")
	decision.credential.narrow.role == "clerk"
}

test_anything_else_is_not if {
	decision := data.remit.decision with input as call("desk", "look")
	not decision.credential.narrow.role
}
