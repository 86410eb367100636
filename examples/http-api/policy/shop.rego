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
	not is_small
}

# Asked this way round an amount that is missing is none that is small.
is_small if input.request.arguments.amount <= 100
