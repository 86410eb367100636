# What agents may do in the shop: look at orders, and refund a little.
package remit.tools.shop

allow if input.tool.access == "read"

allow if {
	input.tool.operation == "POST /orders/*/refund"
	is_number(input.request.arguments.amount)
	input.request.arguments.amount > 0
}

deny contains {"reason": "amount_too_high", "message": "A refund is at most 100."} if {
	input.tool.operation == "POST /orders/*/refund"
	input.request.arguments.amount > 100
}
