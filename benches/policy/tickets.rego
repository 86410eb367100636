# What agents may change of tickets. Sixty lines that look at every argument, as a policy of a team would.
package remit.tools.tickets

arguments := input.request.arguments

statuses := {"open", "pending", "resolved", "closed"}

teams := {"billing": 3, "refund": 2, "shipping": 4, "account": 1}

allow if input.tool.access == "read"

allow if {
	input.tool.operation == "update_ticket"
	is_ticket(arguments.ticket)
	arguments.status in statuses
	arguments.priority <= highest
}

# The strictest of the teams that the ticket belongs to.
highest := max([teams[label] | some label in arguments.labels])

is_ticket(text) if {
	startswith(text, "OPS-")
	regex.match(`^[A-Z]{2,5}-[0-9]{1,6}$`, text)
}

deny contains {"reason": "unknown_label", "message": "A label is one of the teams."} if {
	some label in arguments.labels
	not teams[label]
}

deny contains {"reason": "comment_too_long", "message": "A comment has at most 500 characters."} if {
	count(arguments.comment) > 500
}

deny contains {"reason": "names_a_secret", "message": "A comment never mentions a secret."} if {
	some word in ["password", "secret", "private key"]
	contains(lower(arguments.comment), word)
}

deny contains {"reason": "outside_the_company", "message": "A ticket is assigned to a colleague."} if {
	not endswith(arguments.assignee, "@example.org")
}

deny contains {"reason": "closed_quietly", "message": "Whoever reported it is told when it is closed."} if {
	arguments.status == "closed"
	not arguments.notify
}

escalate contains {"reason": "urgent", "message": "Somebody has to see what is most urgent."} if {
	arguments.priority == 0
}

escalate contains {"reason": "many_calls", "message": "This task has changed much already."} if {
	input.history.calls > 1000000000
	input.tool.access == "write"
}

# A warning forbids nothing: it stands in the record.
warnings contains "no_ticket_declared" if not input.declared.context.ticket
