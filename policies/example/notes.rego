# What agents may do with the notes: read all, write short ones, delete with an approval.
package remit.tools.notes

allow if input.tool.access == "read"

allow if {
	input.tool.operation == "POST /notes"
	is_string(input.request.arguments.text) # a note without a text is none
}

allow if input.tool.access == "execute"

deny contains {
	"reason": "text_forbidden",
	"message": "A note has at most 280 characters and never mentions a secret.",
} if {
	input.tool.operation == "POST /notes"
	forbidden(input.request.arguments.text)
}

escalate contains {
	"reason": "deletion_needs_approval",
	"message": "Somebody has to approve that a note is deleted.",
} if {
	input.tool.access == "execute"
}

# What is no text is forbidden too: a test of the length of a number would be an error.
forbidden(text) if not is_string(text)

forbidden(text) if {
	is_string(text)
	count(text) > data.notes.longest
}

forbidden(text) if {
	is_string(text)
	some word in data.notes.forbidden
	contains(lower(text), word)
}
