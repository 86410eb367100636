# No task is opened with more than there is to spend.
package remit.admit

deny contains {"reason": "budget_too_large", "message": "No task has a budget of so much."} if {
	some unit, limit in input.task.limits.budget
	limit > object.get(data.budget.most, unit, 0)
}
