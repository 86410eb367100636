package remit.tools.pager

allow if input.tool.access == "read"
