package remit.tools.wiki

allow if input.tool.access == "read"
