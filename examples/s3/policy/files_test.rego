package remit.files_test

put(path) := {
	"tool": {"name": "files", "operation": "PUT /notes/**", "access": "write"},
	"request": {"method": "PUT", "path": path},
}

test_a_draft_is_written if {
	data.remit.decision.verdict == "allow" with input as put("/notes/drafts/a")
}

test_nothing_else_is if {
	not data.remit.tools.files.allow with input as put("/notes/shared/a")
}

test_a_session_that_writes_writes_drafts if {
	decision := data.remit.decision with input as put("/notes/drafts/a")
	decision.credential.narrow.policy.Statement[0].Resource == "arn:aws:s3:::notes/drafts/*"
}

test_everything_may_be_looked_at if {
	decision := data.remit.decision with input as {
		"tool": {"name": "files", "access": "read"},
		"request": {"method": "GET", "path": "/notes/shared/a"},
	}
	decision.verdict == "allow"
	decision.credential.narrow.policy.Statement[0].Action == "s3:GetObject"
}
