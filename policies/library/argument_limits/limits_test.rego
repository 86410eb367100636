package remit.limits_test

import data.remit.lib.limits

test_amounts if {
	limits.at_most(100, 100)
	not limits.at_most(100.01, 100)
	not limits.at_most(0, 100)
	not limits.at_most(-5, 100)
	not limits.at_most("5", 100)
	not limits.at_most(null, 100)
}

test_mails if {
	limits.mails_within(["a@example.org", "b@EXAMPLE.org"], {"example.org"})
	not limits.mails_within(["a@example.org", "b@elsewhere.example"], {"example.org"})
	not limits.mails_within(["a@example.org@elsewhere.example"], {"example.org"})
	not limits.mails_within(["a@example.org\nb@elsewhere.example"], {"example.org"})
	not limits.mails_within([], {"example.org"})
	not limits.mails_within("a@example.org", {"example.org"})
	not limits.mails_within([null], {"example.org"})
}

test_paths if {
	limits.path_within("/reports/2026/a.csv", {"/reports/"})
	not limits.path_within("/reports", {"/reports/"})
	not limits.path_within("/reports/../etc/passwd", {"/reports/"})
	not limits.path_within("/reports/%2e%2e/etc", {"/reports/"})
	not limits.path_within("/reports/..", {"/reports/"})
	not limits.path_within("reports/a", {"/reports/"})
	not limits.path_within(7, {"/reports/"})
}

test_selects if {
	limits.sql_selects("SELECT name FROM people WHERE id = 7")
	limits.sql_selects("  select updated_at from t")
	not limits.sql_selects("DELETE FROM people")
	not limits.sql_selects("select 1; drop table people")
	not limits.sql_selects("SELECT * INTO copy FROM people")
	not limits.sql_selects("selector")
	not limits.sql_selects(["select 1"])
}
