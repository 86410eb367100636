# What is hard to take back is approved by two people, neither of whom asked for it.
package remit.all

escalate contains {
	"reason": "two_persons",
	"message": "Two people have to approve this.",
	"approvers": {"roles": data.two_person_approval.roles, "count": 2},
} if {
	needs_two_persons
}

# Where nobody is named nobody could approve, and a rule that can't be evaluated escalates nothing.
deny contains {"reason": "no_approvers", "message": "Nobody is named who could approve this."} if {
	needs_two_persons
	not has_approvers
}

needs_two_persons if {
	input.tool.access == "execute"
	not exempt
}

needs_two_persons if input.tool.operation in data.two_person_approval.operations[input.tool.name]

exempt if input.tool.name in data.two_person_approval.exempt

has_approvers if count(data.two_person_approval.roles) > 0
