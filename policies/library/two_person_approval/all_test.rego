package remit.two_person_approval_test

settings := {
	"roles": ["approver", "operator"],
	"operations": {"shop": ["POST /orders/*/refund"]},
	"exempt": ["ci"],
}

call(tool, operation, access) := {"tool": {"name": tool, "operation": operation, "access": access}, "approval": null}

asked(input_of, settings_of) := {entry | some entry in found; entry.reason == "two_persons"} if {
	found := data.remit.all.escalate with input as input_of with data.two_person_approval as settings_of
}

refused(input_of, settings_of) := {entry.reason | some entry in found} if {
	found := data.remit.all.deny with input as input_of with data.two_person_approval as settings_of
}

refund := call("shop", "POST /orders/*/refund", "write")

test_what_is_executed_needs_two if count(asked(call("shop", "DELETE /orders/*", "execute"), settings)) == 1

test_what_is_named_needs_two if {
	some entry in asked(refund, settings)
	entry.approvers == {"roles": ["approver", "operator"], "count": 2}
}

test_another_operation_does_not if count(asked(call("shop", "POST /orders", "write"), settings)) == 0

test_nor_one_of_that_name_elsewhere if count(asked(call("desk", "POST /orders/*/refund", "write"), settings)) == 0

test_nor_what_is_exempt if count(asked(call("ci", "POST /builds", "execute"), settings)) == 0

test_reading_does_not if count(asked(call("shop", "GET /orders", "read"), settings)) == 0

test_without_anybody_to_ask_it_is_refused if {
	"no_approvers" in refused(refund, object.union(settings, {"roles": []}))
	"no_approvers" in refused(call("shop", "DELETE /orders/*", "execute"), {})
}

test_with_somebody_it_is_not if not "no_approvers" in refused(refund, settings)
