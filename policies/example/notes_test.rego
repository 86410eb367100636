package remit.notes_test

note(text) := {
	"tool": {"name": "notes", "operation": "POST /notes", "access": "write"},
	"task": {"labels": []},
	"request": {"arguments": {"text": text}},
}

reading := {
	"tool": {"name": "notes", "operation": "GET /notes", "access": "read"},
	"task": {"labels": []},
	"request": {"arguments": {}},
}

deleting := {
	"tool": {"name": "notes", "operation": "DELETE /notes/*", "access": "execute"},
	"task": {"labels": []},
	"request": {"arguments": {}},
}

test_reading_is_allowed if {
	data.remit.decision.verdict == "allow" with input as reading
}

test_a_short_note_is_allowed if {
	data.remit.decision.verdict == "allow" with input as note("milk")
}

test_a_long_note_is_denied if {
	text := concat("", [part | some _ in [1, 2, 3]; part := sprintf("%94d", [0])])
	count(text) > 280
	decision := data.remit.decision with input as note(text)
	decision.verdict == "deny"
	decision.reason == "text_forbidden"
}

test_a_note_on_a_secret_is_denied if {
	decision := data.remit.decision with input as note("the SECRET is out")
	decision.verdict == "deny"
	decision.reason == "text_forbidden"
}

test_a_note_that_is_no_text_is_denied if {
	data.remit.decision.verdict == "deny" with input as note(7)
}

test_deleting_needs_an_approval if {
	decision := data.remit.decision with input as deleting
	decision.verdict == "escalate"
	decision.reason == "deletion_needs_approval"
}
