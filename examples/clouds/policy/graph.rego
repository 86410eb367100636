# People may be listed.
package remit.tools.graph

allow if input.tool.access == "read"
