//! Times as HTTP, the Common Log Format and JSON write them, all in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: u64 = 86_400;

/// A moment, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u64);

/// Its parts.
struct Parts {
    year: u64,
    /// 0 to 11.
    month: usize,
    /// 1 to 31.
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    weekday: &'static str,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    fn parts(self) -> Parts {
        let (days, rest) = (self.0 / DAY, self.0 % DAY);
        let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut day) = (1970, days);
        // 400 years are 146 097 days; the rest is counted.
        year += day / 146_097 * 400;
        day %= 146_097;
        while day >= 365 + u64::from(leap(year)) {
            day -= 365 + u64::from(leap(year));
            year += 1;
        }
        let mut month = 0;
        for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        let weekday = DAYS[((days + 4) % 7) as usize];
        Parts { year, month, day: day + 1, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, weekday }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
    pub(super) fn http(self) -> String {
        let Parts { year, month, day, hour, minute, second, weekday } = self.parts();
        format!("{weekday}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month])
    }

    /// `06/Nov/1994:08:49:37 +0000`.
    pub(super) fn log(self) -> String {
        let Parts { year, month, day, hour, minute, second, .. } = self.parts();
        format!("{day:02}/{}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000", MONTHS[month])
    }

    /// `1994-11-06T08:49:37Z`.
    pub(super) fn iso(self) -> String {
        let Parts { year, month, day, hour, minute, second, .. } = self.parts();
        format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_date_writes_them() {
        for (seconds, http) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_740_787_200, "Sat, 01 Mar 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (13_574_563_200, "Tue, 29 Feb 2400 00:00:00 GMT"),
        ] {
            assert_eq!(Moment(seconds).http(), http);
        }
        assert_eq!(Moment(784_111_777).log(), "06/Nov/1994:08:49:37 +0000");
        assert_eq!(Moment(784_111_777).iso(), "1994-11-06T08:49:37Z");
    }
}
