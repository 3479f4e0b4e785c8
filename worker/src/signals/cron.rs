//! One line of a cron table: which minutes of the local time it means. Pure; the time is an argument.
use serde::{Deserialize, Serialize};

/// A minute of the local time, as a wall clock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 1 to 31.
    pub day: u32,
    /// 1 to 12.
    pub month: u32,
    /// 0 (Sunday) to 6.
    pub weekday: u32,
}

/// The values that each field may have, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// A field: what it is called, its least and its greatest value, and names for the values.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day", least: 1, most: 31, names: &[] },
    Field {
        what: "month",
        least: 1,
        most: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    // Sunday is 0 and 7.
    Field { what: "weekday", least: 0, most: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Field {
    fn all(&self) -> u64 {
        (self.least..=self.most).fold(0, |all, value| all | 1 << value)
    }

    fn every(&self, step: u32) -> u64 {
        // As uWSGI and cron have it: from the least value on, for a field that begins with 1 as for one that begins with 0.
        (self.least..=self.most).step_by(step as usize).fold(0, |all, value| all | 1 << value)
    }

    /// uWSGI's numbers: -1 is any, -N every Nth.
    fn of_number(&self, number: i64) -> Result<u64, String> {
        let (least, most) = (i64::from(self.least), i64::from(self.most));
        match number {
            -1 => Ok(self.all()),
            _ if (-most..0).contains(&number) => Ok((self.least..=self.most)
                .filter(|&value| i64::from(value) % -number == 0)
                .fold(0, |all, value| all | 1 << value)),
            _ if (least..=most).contains(&number) => Ok(1 << number),
            _ => Err(format!("the {} is {least} to {most}, -1 for any or -N for every Nth", self.what)),
        }
    }

    /// cron's text: `*`, `*/5`, `1-5`, `mon-fri/2`, and lists of these.
    fn of_text(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |all, part| Ok(all | self.of_part(part)?))
    }

    fn of_part(&self, part: &str) -> Result<u64, String> {
        let wrong = || {
            let (what, least, most) = (self.what, self.least, self.most);
            format!("\"{part}\" is no {what}: write *, */5, a number from {least} to {most}, 1-5, or 1,3,5")
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|&step| step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        if range == "*" {
            return Ok(self.every(step));
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(first), Some(last)) = (self.value(first), self.value(last)) else { return Err(wrong()) };
        if first > last {
            return Err(wrong());
        }
        Ok((first..=last).step_by(step as usize).fold(0, |all, value| all | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let is_it = |name: &&str| name.eq_ignore_ascii_case(text);
        let named = self.names.iter().position(is_it).map(|at| at as u32 + self.least);
        named.or_else(|| text.parse().ok().filter(|value| (self.least..=self.most).contains(value)))
    }
}

impl Cron {
    fn of([minutes, hours, days, months, weekdays]: [u64; 5]) -> Cron {
        let sunday = weekdays >> 7 & 1;
        Cron { minutes, hours, days, months, weekdays: (weekdays | sunday) & 0x7f }
    }

    /// uWSGI's five numbers: minute, hour, day, month, weekday. An error is a sentence.
    pub fn of_numbers(numbers: [i64; 5]) -> Result<Cron, String> {
        let mut masks = [0; 5];
        for ((mask, number), field) in masks.iter_mut().zip(numbers).zip(&FIELDS) {
            *mask = field.of_number(number)?;
        }
        Ok(Cron::of(masks))
    }

    /// Five words, as in a crontab. An error is a sentence.
    pub fn parse(line: &str) -> Result<Cron, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Ok(words) = <[&str; 5]>::try_from(words) else {
            return Err(format!("\"{line}\" has not five fields: minute, hour, day, month and weekday"));
        };
        let mut masks = [0; 5];
        for ((mask, word), field) in masks.iter_mut().zip(words).zip(&FIELDS) {
            *mask = field.of_text(word)?;
        }
        Ok(Cron::of(masks))
    }

    /// Whether it means this minute. If it says both days and weekdays, either will do, as in every cron.
    pub fn matches(&self, local: Local) -> bool {
        let has = |mask: u64, value: u32| value < 64 && mask >> value & 1 == 1;
        let (day, weekday) = (has(self.days, local.day), has(self.weekdays, local.weekday));
        let is_any_day = self.days == FIELDS[2].all();
        let is_any_weekday = self.weekdays == 0x7f;
        let is_today = if is_any_day || is_any_weekday { day && weekday } else { day || weekday };
        is_today
            && has(self.minutes, local.minute)
            && has(self.hours, local.hour)
            && has(self.months, local.month)
    }

    /// Whether it means certain hours. Where the clocks go back, these come only once; where they go forward, none is left out.
    pub fn has_hours(&self) -> bool {
        self.hours != FIELDS[1].all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tuesday, 10 March, 14:30.
    const THEN: Local = Local { minute: 30, hour: 14, day: 10, month: 3, weekday: 2 };

    fn means(line: &str) -> bool {
        Cron::parse(line).unwrap().matches(THEN)
    }

    #[test]
    fn lines_mean_what_they_mean_in_every_crontab() {
        let yes =
            ["* * * * *", "30 14 * * *", "*/15 8-18/2 * mar mon-fri", "0,30 14 10 3 2", "30 14 1 * tue"];
        assert!(yes.iter().all(|line| means(line)), "{yes:?}");
        let no =
            ["31 * * * *", "* 15 * * *", "30 14 11 * *", "30 14 * apr *", "30 14 * * wed", "*/20 * * * *"];
        assert!(no.iter().all(|line| !means(line)), "{no:?}");
        assert!(Cron::parse("0 0 * * 7").unwrap() == Cron::parse("0 0 * * sun").unwrap());
    }

    #[test]
    fn either_of_days_and_weekdays_will_do_if_both_are_said() {
        assert!(means("30 14 10 * sun") && means("30 14 1 * tue") && !means("30 14 1 * sun"));
    }

    #[test]
    fn numbers_mean_what_they_mean_in_uwsgi() {
        let means = |numbers| Cron::of_numbers(numbers).unwrap().matches(THEN);
        assert!(means([-1, -1, -1, -1, -1]) && means([30, 14, 10, 3, 2]) && means([-10, -2, -1, -1, -1]));
        assert!(!means([-20, -1, -1, -1, -1]) && !means([-1, -1, -1, -1, 3]));
        for wrong in [[60, -1, -1, -1, -1], [-1, 24, -1, -1, -1], [-1, -1, 0, -1, -1], [-1, -1, -1, 13, -1]] {
            assert!(Cron::of_numbers(wrong).is_err(), "{wrong:?}");
        }
        assert!(Cron::of_numbers([i64::MIN, 0, 1, 1, 1]).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in ["", "* * * *", "* * * * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *"] {
            assert!(Cron::parse(line).is_err(), "{line}");
        }
        let said = Cron::parse("* 25 * * *").unwrap_err();
        assert!(said.contains("\"25\" is no hour"), "{said}");
    }
}
