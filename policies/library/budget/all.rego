# What costs is called with a budget, and with little of it left in a small way.
package remit.all

deny contains {"reason": "no_budget", "message": "This tool costs: ask for a task with a budget."} if {
	some unit in data.budget.required[input.tool.name]
	not has_budget(unit)
}

deny contains {"reason": "budget_nearly_spent", "message": "Little of the budget is left: ask a small model."} if {
	data.budget.required[input.tool.name]
	some unit, limit in input.task.limits.budget
	input.history.spent[unit] >= limit * data.budget.scarce
	not small
}

has_budget(unit) if input.task.limits.budget[unit]

small if input.request.arguments.model in data.budget.small_models
