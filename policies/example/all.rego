# What holds for every call, whatever the tool.
package remit.all

deny contains {
	"reason": "task_frozen",
	"message": "The task carries the label `frozen`.",
} if {
	"frozen" in input.task.labels
}
