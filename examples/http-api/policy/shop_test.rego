package remit.shop_test

refund(amount) := {
	"tool": {"name": "shop", "operation": "POST /orders/*/refund", "access": "write"},
	"request": {"arguments": {"amount": amount}},
}

test_looking_is_allowed if {
	data.remit.decision.verdict == "allow" with input as {"tool": {"name": "shop", "access": "read"}}
}

test_a_small_refund_is_allowed if {
	data.remit.decision.verdict == "allow" with input as refund(100)
}

test_a_large_refund_is_denied if {
	decision := data.remit.decision with input as refund(101)
	decision.reason == "amount_too_high"
}

test_an_amount_in_text_is_denied if {
	data.remit.decision.verdict == "deny" with input as refund("1")
}
