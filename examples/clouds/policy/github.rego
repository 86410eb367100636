# Issues may be read. A token is for the repository of the call and no other.
package remit.tools.github

allow if input.tool.access == "read"

credential := {"narrow": {"repositories": [input.request.segments[2]]}}
