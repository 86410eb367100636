package remit.business_hours_test

# Nanoseconds since 1970, of a time with its zone.
at(text) := time.parse_rfc3339_ns(text)

open_at(text) if data.remit.lib.business_hours.open with data.remit.lib.business_hours.now as at(text)

test_a_morning_of_a_working_day if open_at("2026-11-26T10:00:00+01:00")

test_the_first_minute if open_at("2026-11-26T08:00:00+01:00")

test_not_before_the_first_minute if not open_at("2026-11-26T07:59:59+01:00")

test_not_the_minute_after_the_last if not open_at("2026-11-26T18:00:00+01:00")

test_not_at_the_weekend if not open_at("2026-11-28T10:00:00+01:00")

test_not_on_a_holiday if not open_at("2026-12-25T10:00:00+01:00")

test_the_zone_counts_not_the_offset if open_at("2026-11-26T02:30:00-06:00")

test_summer_time_counts if open_at("2026-07-01T06:00:00Z")

test_without_data_it_is_closed if {
	not data.remit.lib.business_hours.open with data.business_hours as {}
}

refused(access) if {
	found := data.remit.all.deny with input as {"tool": {"access": access}}
		with data.remit.lib.business_hours.now as at("2026-11-28T10:00:00+01:00")
	some entry in found
	entry.reason == "out_of_hours"
}

test_writing_is_refused_out_of_hours if refused("write")

test_what_has_no_access_is_refused_out_of_hours if refused(null)

test_reading_is_not if not refused("read")

test_now_is_now if data.remit.lib.business_hours.now > at("2026-01-01T00:00:00Z")
