# What agents may do at the support desk: look, refund small amounts, never purge.
package remit.tools.desk

# Finding tickets, and what the protocol itself needs.
allow if input.tool.access == "read"

allow if {
	input.tool.operation == "refund"
	is_string(input.request.arguments.ticket)
	is_number(input.request.arguments.amount)
	input.request.arguments.amount > 0
}

deny contains {
	"reason": "amount_too_high",
	"message": sprintf("A refund is at most %v.", [data.desk.refund.most]),
} if {
	input.tool.operation == "refund"
	not is_small
}

# Asked this way round an amount that is missing is none that is small.
is_small if input.request.arguments.amount <= data.desk.refund.most

deny contains {
	"reason": "purge_forbidden",
	"message": "An agent never purges the desk.",
} if {
	input.tool.operation == "purge"
}
