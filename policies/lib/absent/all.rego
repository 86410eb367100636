# No bundle has come yet: every call is refused.
package remit.all

deny contains {
	"reason": "no_policy",
	"message": "the gateway has no policy yet: no bundle has come",
}
