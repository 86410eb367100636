package remit.tools.mail

allow if input.tool.access == "read"
