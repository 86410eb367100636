# The further a task was delegated, the less it does: reading goes further than writing, and writing further than executing.
package remit.all

deny contains {"reason": "delegated_too_far", "message": "A task that was delegated this often may not do that: ask the agent that delegated it."} if {
	count(input.task.chain) > object.get(data.delegation.deepest, input.tool.access, 0)
}

deny contains {"reason": "may_not_delegate", "message": "An agent that may not delegate has delegated this task."} if {
	some agent in input.task.chain
	not may_delegate(agent)
}

may_delegate(agent) if glob.match(data.delegation.delegators[_], ["/"], agent)
