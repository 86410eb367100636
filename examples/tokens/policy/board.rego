package remit.tools.board

allow if input.tool.access == "read"
