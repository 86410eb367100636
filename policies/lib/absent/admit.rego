# No bundle has come yet: no task is opened.
package remit.admit

deny contains {
	"reason": "no_policy",
	"message": "the gateway has no policy yet: no bundle has come",
}
