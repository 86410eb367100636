# Calls leave only for hosts in the regions that the task's data may be in.
package remit.all

deny contains {"reason": "data_residency", "message": "This task's data may not go to that tool's region."} if {
	not resides
}

resides if {
	region := data.residency.regions[input.tool.name]
	region in data.residency.allowed[input.task.attributes.data_class]
}
