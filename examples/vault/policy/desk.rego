# Looking is allowed. Who works on a return does it as a clerk.
package remit.tools.desk

allow if input.tool.access == "read"

credential := {"narrow": {"role": "clerk"}} if startswith(input.task.purpose, "return")
