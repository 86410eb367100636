# What costs is called with a budget alone, in a way that tells what it cost, and with little of it left in a small way.
package remit.all

deny contains {"reason": "no_budget", "message": "This tool costs: ask for a task with a budget."} if {
	some unit in data.budget.required[input.tool.name]
	changes
	not has_budget(unit)
}

deny contains {"reason": "budget_nearly_spent", "message": "Little of the budget is left: ask a small model."} if {
	data.budget.required[input.tool.name]
	changes
	some unit, left in input.history.rest.budget
	left <= data.budget.scarce[unit]
	not small
}

deny contains {"reason": "cost_unbounded", "message": "Say with `max_tokens` how long the answer may be."} if {
	data.budget.required[input.tool.name]
	changes
	not bounded
}

deny contains {"reason": "cost_untold", "message": "A stream of this tool tells what it cost with `stream_options.include_usage` alone."} if {
	input.tool.name in data.budget.asked_for_usage
	input.request.arguments.stream == true
	not told
}

changes if input.tool.access != "read"

has_budget(unit) if input.history.rest.budget[unit] >= 0

small if input.request.arguments.model in data.budget.small_models

bounded if {
	is_number(input.request.arguments.max_tokens)
	input.request.arguments.max_tokens <= data.budget.longest_answer
}

told if input.request.arguments.stream_options.include_usage == true
