# Whether it is now within the hours and days that data names, in the time zone that data names.
package remit.lib.business_hours

now := time.now_ns()

open if {
	zone := data.business_hours.zone
	time.weekday([now, zone]) in data.business_hours.days
	not holiday
	[hour, minute, _] := time.clock([now, zone])
	minutes := (hour * 60) + minute
	minutes >= data.business_hours.from_minute
	minutes < data.business_hours.to_minute
}

holiday if {
	[year, month, day] := time.date([now, data.business_hours.zone])
	today := sprintf("%d-%d-%d", [year, month, day])
	today in data.business_hours.holidays
}
