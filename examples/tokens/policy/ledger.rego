package remit.tools.ledger

allow if input.tool.access == "read"
