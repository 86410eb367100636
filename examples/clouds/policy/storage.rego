# Objects may be listed.
package remit.tools.storage

allow if input.tool.access == "read"
