# Limits of arguments. Each holds only for what is certainly within it: what is missing or of another type is not.
package remit.lib.limits

# A positive number up to a limit.
at_most(value, limit) if {
	is_number(value)
	value > 0
	value <= limit
}

# A list of mail addresses, none of which is outside of the domains.
mails_within(addresses, domains) if {
	is_array(addresses)
	count(addresses) > 0
	every address in addresses {
		mail_within(address, domains)
	}
}

# One mail address: one @, plain characters, a domain of the list.
mail_within(address, domains) if {
	is_string(address)
	regex.match(`^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+$`, address)
	parts := split(address, "@")
	lower(parts[1]) in domains
}

# A path below one of the folders, which end with a slash: without `.` and `..`, backslash or percent sign.
path_within(path, folders) if {
	is_string(path)
	regex.match(`^/[A-Za-z0-9._/ -]*$`, path)
	not regex.match(`(^|/)\.\.?(/|$)`, path)
	some folder in folders
	startswith(path, folder)
}

# One SQL statement that begins with SELECT. This is no SQL firewall: a function can change data too.
sql_selects(text) if {
	is_string(text)
	regex.match(`^\s*(?i:select)\s`, text)
	not contains(text, ";")
	not regex.match(`(?i)(^|[^a-z0-9_])(insert|update|delete|drop|alter|create|grant|truncate|merge|call|copy|into)([^a-z0-9_]|$)`, text)
}
