"""Times that are refused."""

from tests.bad_inputs.case import CLOCK, FREQUENCY, INFER, ISO, OFFSETS, ONCE, Case
from tests.bad_inputs.tables import hours, parquet, stamps

NEW_YORK = {"timezone": "America/New_York"}

TIMES = (
    Case(
        "text for a time",
        "sales.csv: column 'time', row 3: 'soon' is no time.",
        ISO,
        {"sales.csv": stamps(*hours(at_3="soon"))},
    ),
    Case(
        "a row of totals",
        "sales.csv: column 'time', row 25: 'Total' is no time.",
        ISO,
        {"sales.csv": stamps(*hours(), "Total")},
    ),
    Case(
        "a second header with units",
        "sales.csv: column 'time', row 1: 'UTC' is no time.",
        ISO,
        {"sales.csv": stamps("UTC", *hours())},
    ),
    Case(
        "a day that does not exist",
        "sales.csv: column 'time', row 3: '2024-02-31T02:00Z' is no time.",
        ISO,
        {"sales.csv": stamps(*hours(at_3="2024-02-31T02:00Z"))},
    ),
    Case(
        "24:00",
        "sales.csv: column 'time', row 25: '2024-01-01T24:00Z' is no time.",
        ISO,
        {"sales.csv": stamps(*hours(), "2024-01-01T24:00Z")},
    ),
    Case(
        "a leap second",
        "sales.csv: column 'time', row 1: '2016-12-31T23:59:60Z' is no time.",
        ISO,
        {"sales.csv": stamps("2016-12-31T23:59:60Z")},
    ),
    Case(
        "weeks",
        "sales.csv: column 'time', row 1: '2024-W01' is no time.",
        ISO,
        {"sales.csv": stamps("2024-W01", "2024-W02")},
    ),
    Case(
        "a time zone in words",
        "sales.csv: column 'time', row 1: '2024-01-01T00:00 CET' is no time.",
        ISO,
        {"sales.csv": stamps("2024-01-01T00:00 CET", "2024-01-01T01:00 CET")},
    ),
    Case(
        "the time of reading", "sales.csv: column 'time', row 1: 'now' is no time.", ISO, {"sales.csv": stamps("now")}
    ),
    Case(
        "seconds since 1970",
        "sales.csv: column 'time', row 1: '1704067200' is a number, and nobody says since when.",
        ISO,
        {"sales.csv": stamps("1704067200", "1704070800")},
    ),
    Case(
        "numbers in Parquet",
        "sales.parquet: column 'time' holds numbers, and nobody says since when.",
        ISO,
        {"sales.parquet": parquet(time=list(range(48)))},
        {"source": "sales.parquet"},
    ),
    Case(
        "no time",
        "sales.csv: column 'time', row 3: the time is empty or NA.",
        "Fill it in, or leave the row out.",
        {"sales.csv": stamps(*hours(at_3=""))},
    ),
    Case(
        "a year before 1800",
        "sales.csv: column 'time', row 1: '1492-01-01T00:00Z' is not in 1800 to 2200.",
        "Correct the time.",
        {"sales.csv": stamps(*hours(at_1="1492-01-01T00:00Z"))},
    ),
    Case(
        "a time that stands for never",
        "sales.csv: column 'time', row 25: '9999-12-31T00:00Z' is not in 1800 to 2200.",
        "Correct the time.",
        {"sales.csv": stamps(*hours(), "9999-12-31T00:00Z")},
    ),
    Case(
        "day, month, year",
        "sales.csv: column 'time', row 1: '31/01/2024 00:00' is no time.",
        ISO,
        {"sales.csv": stamps("31/01/2024 00:00", "31/01/2024 01:00")},
    ),
    Case(
        "another format than the given one",
        "sales.csv: column 'time', row 1: '01/31/2024 00:00' is not what data.time_format '%d/%m/%Y %H:%M' describes.",
        "Correct one of them.",
        {"sales.csv": stamps("01/31/2024 00:00")},
        {"time_format": "%d/%m/%Y %H:%M"},
    ),
    Case(
        "a zone that strptime does not know",
        "sales.csv: column 'time', row 1: '2024-11-03 00:30 EDT' is not what data.time_format '%Y-%m-%d "
        "%H:%M %Z' describes.",
        "Correct one of them.",
        {"sales.csv": stamps("2024-11-03 00:30 EDT")},
        {"time_format": "%Y-%m-%d %H:%M %Z"},
    ),
    Case(
        "some times without an offset",
        "sales.csv: column 'time', row 3: '2024-01-01T02:00' has no offset, unlike the rows before.",
        OFFSETS,
        {"sales.csv": stamps(*hours(at_3="2024-01-01T02:00"))},
    ),
    Case(
        "some times with an offset",
        "sales.csv: column 'time', row 2: '2024-01-01T01:00+01:00' has an offset, unlike the rows before.",
        OFFSETS,
        {"sales.csv": stamps("2024-01-01T00:00", "2024-01-01T01:00+01:00")},
    ),
    Case(
        "a local hour that comes twice",
        "sales.csv: column 'time', row 2: local time '2024-11-03T01:00' comes twice in "
        "America/New_York, where the clocks change.",
        CLOCK,
        {"sales.csv": stamps("2024-11-03T00:00", "2024-11-03T01:00")},
        NEW_YORK,
    ),
    Case(
        "a local hour that does not exist",
        "sales.csv: column 'time', row 2: local time '2024-03-10T02:00' does not exist in "
        "America/New_York, where the clocks change.",
        CLOCK,
        {"sales.csv": stamps("2024-03-10T01:00", "2024-03-10T02:00")},
        NEW_YORK,
    ),
    Case(
        "a local day that does not exist",
        "sales.csv: column 'time', row 2: local time '2011-12-30' does not exist in Pacific/Apia, where "
        "the clocks change.",
        CLOCK,
        {"sales.csv": stamps("2011-12-29", "2011-12-30", "2011-12-31")},
        {"timezone": "Pacific/Apia", "frequency": "1d"},
    ),
    Case(
        "a time off the grid",
        "sales.csv: row 3: time 2024-01-01T02:01:00+00:00 is off the grid of data.frequency=1h, counted "
        "from 2024-01-01T00:00:00+00:00.",
        FREQUENCY,
        {"sales.csv": stamps(*hours(at_3="2024-01-01T02:01Z"))},
    ),
    Case(
        "local hours where the clocks change by half an hour",
        "sales.csv: row 3: time 2024-04-07T02:00:00+10:30 is off the grid of data.frequency=1h, counted "
        "from 2024-04-07T00:00:00+11:00.",
        FREQUENCY,
        {"sales.csv": stamps("2024-04-07T00:00", "2024-04-07T01:00", "2024-04-07T02:00")},
        {"timezone": "Australia/Lord_Howe"},
    ),
    Case(
        "days on a grid of business days",
        "sales.csv: row 2: time 2024-01-06T00:00:00+00:00 is off the grid of data.frequency=B in UTC, "
        "counted from 2024-01-05T00:00:00+00:00.",
        FREQUENCY,
        {"sales.csv": stamps("2024-01-05", "2024-01-06")},
        {"frequency": "B"},
    ),
    Case(
        "months that begin in their middle",
        "sales.csv: row 1: time 2024-01-15T00:00:00+00:00 is off the grid of data.frequency=MS in UTC, "
        "and begins its series.",
        FREQUENCY,
        {"sales.csv": stamps("2024-01-15", "2024-02-15")},
        {"frequency": "MS"},
    ),
    Case(
        "local days on a grid of days in UTC",
        "sales.csv: row 3: time 2024-03-31T22:00:00+00:00 is off the grid of data.frequency=1d in UTC, "
        "counted from 2024-03-29T23:00:00+00:00.",
        FREQUENCY,
        {"sales.csv": stamps("2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00")},
        {"frequency": "1d"},
    ),
    Case(
        "a row twice",
        "sales.csv: rows 2 and 3: series 'north' has 2024-01-01T01:00:00+00:00 twice.",
        ONCE,
        {"sales.csv": stamps(*hours(at_3="2024-01-01T01:00Z"))},
    ),
    Case(
        "several series without their ids",
        "sales.csv: rows 1 and 25: series 'all' has 2024-01-01T00:00:00+00:00 twice.",
        ONCE,
        data={"series": None},
    ),
    Case(
        "a frequency too coarse",
        "sales.csv: row 2: time 2024-01-01T01:00:00+00:00 is off the grid of data.frequency=1d in UTC, "
        "counted from 2024-01-01T00:00:00+00:00.",
        FREQUENCY,
        data={"frequency": "1d"},
    ),
    Case(
        "a frequency far too fine",
        "sales.csv: data.frequency=1s makes a grid of 2.68e+06 rows for 2 measured ones.",
        "Set the true frequency.",
        {"sales.csv": stamps("2024-01-01T00:00Z", "2024-02-01T00:00Z")},
        {"frequency": "1s"},
    ),
    Case(
        "no frequency to infer",
        "sales.csv: data.frequency: infer finds no step that most rows follow each other by.",
        INFER,
        {"sales.csv": stamps("2024-01-01T00:00Z", "2024-01-01T00:07Z", "2024-01-03T00:00Z", "2024-01-03T05:00Z")},
        {"frequency": "infer"},
    ),
    Case(
        "two rows to infer from",
        "sales.csv: data.frequency: infer finds no step that most rows follow each other by.",
        INFER,
        {"sales.csv": stamps(*hours(2))},
        {"frequency": "infer"},
    ),
)
