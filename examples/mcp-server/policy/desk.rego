# What agents may do at the desk: look, and close a ticket with a reason. Never purge.
package remit.tools.desk

# Finding tickets, and what the protocol itself needs: `initialize`, `tools/list`, …
allow if input.tool.access == "read"

allow if {
	input.tool.operation == "close_ticket"
	input.request.arguments.reason in {"solved", "duplicate"}
}

deny contains {"reason": "purge_forbidden", "message": "An agent never purges the desk."} if {
	input.tool.operation == "purge"
}
