# Outside of business hours agents read and do nothing else.
package remit.all

deny contains {"reason": "out_of_hours", "message": "Outside of business hours nothing is changed."} if {
	not input.tool.access == "read"
	not data.remit.lib.business_hours.open
}
