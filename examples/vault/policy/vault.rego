# Looking is allowed. Who works on a return acts as a clerk.
package remit.all

allow if input.tool.access == "read"

credential := {"narrow": {"role": "clerk"}} if {
	input.tool.name == "desk"
	startswith(input.task.purpose, "return")
}
