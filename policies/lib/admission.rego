# Composes the answer to the wish to open a task from `remit.admit`.
package remit

admission := answer("deny", data.remit.admit.deny) if {
	count(data.remit.admit.deny) > 0
} else := {"verdict": "allow"} if {
	data.remit.admit.allow == true
}
