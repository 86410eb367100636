# Looking is allowed.
package remit.tools.shop

allow if input.tool.access == "read"
