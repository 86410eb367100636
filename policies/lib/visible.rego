# Says whether a task sees a tool in lists. A courtesy to the agent, never the control.
package remit

visible := false if {
	data.remit.list.hide == true
} else := true
