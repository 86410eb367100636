# A task reaches one environment: prod only if it was opened for prod, and nothing else then.
package remit.all

deny contains {"reason": "other_environment", "message": "This task is for another environment."} if {
	not fenced_in
}

fenced_in if {
	is_string(input.tool.environment)
	input.tool.environment == input.task.attributes.environment
}
