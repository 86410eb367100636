# Whatever changes something is refused, on every tool, but for the operations that data names.
package remit.all

deny contains {"reason": "read_only", "message": "Agents may read here; what changes something is refused."} if {
	not input.tool.access == "read"
	not excepted
}

excepted if input.tool.operation in data.read_only.except[input.tool.name]
