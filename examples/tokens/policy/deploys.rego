package remit.tools.deploys

allow if input.tool.access == "read"
