# What agents may do with the bucket: look at everything, and write drafts.
package remit.tools.files

allow if input.tool.access == "read"

allow if is_draft

is_draft if startswith(input.request.path, "/notes/drafts/")

# Whatever the role may: a session that reads reads objects, one that writes writes drafts.
credential := {"narrow": {"policy": only("s3:GetObject", "*")}} if input.tool.access == "read"

else := {"narrow": {"policy": only("s3:PutObject", "drafts/*")}}

only(action, key) := {
	"Version": "2012-10-17",
	"Statement": [{"Effect": "Allow", "Action": action, "Resource": concat("", ["arn:aws:s3:::notes/", key])}],
}
