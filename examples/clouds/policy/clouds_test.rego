package remit.clouds_test

call(tool, segments) := {
	"tool": {"name": tool, "access": "read"},
	"request": {"segments": segments},
}

test_a_token_is_for_the_repository_of_the_call if {
	decision := data.remit.decision with input as call("github", ["repos", "acme", "site", "issues"])
	decision.verdict == "allow"
	decision.credential.narrow.repositories == ["site"]
}

test_objects_are_listed if {
	data.remit.decision.verdict == "allow" with input as call("storage", ["b", "reports", "o"])
}

test_people_are_listed if {
	data.remit.decision.verdict == "allow" with input as call("graph", ["users"])
}
