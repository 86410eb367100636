# Duties are separated: a task that may write to a tool does not execute on it, and one that has executed writes no more.
package remit.all

deny contains {"reason": "duties_not_separated", "message": "A task that may write here does not execute here: open one for each."} if {
	input.tool.access == "execute"
	not exempt
	some grant in input.task.grants
	grant.tool == input.tool.name
	"write" in grant.access
}

deny contains {"reason": "executed_before", "message": "This task has executed something; what it writes needs a task of its own."} if {
	input.tool.access == "write"
	not exempt
	object.get(input.history.by_access, "execute", 0) > 0
}

exempt if input.tool.name in data.separation.exempt
