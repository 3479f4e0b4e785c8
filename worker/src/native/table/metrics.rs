//! The functions of metrics: arguments are converted, then one call into [`crate::metrics`] does the work. They never wait.
#![expect(unsafe_code, reason = "takes pointers over the C interface")]

use super::anywhere::{Refused, answer};
use super::bytes;
use crate::metrics::number::Change;
use crate::metrics::{Definition, Error, Kind, Metrics};
use appliance_app::abi::{self, ApplianceLabel, ApplianceMetric, ApplianceText};
use nix::errno::Errno;

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let errno = if matches!(error, Error::Full(_)) { Errno::ENOSPC } else { Errno::EINVAL };
        Refused::new(errno, error.to_string())
    }
}

/// The metrics of this appliance.
fn ours() -> Result<&'static Metrics, Refused> {
    let why = "metrics work only where the appliance has loaded the application";
    Metrics::here().ok_or_else(|| Refused::new(Errno::EPERM, why))
}

/// # Safety
/// The bytes are valid for `'a`.
unsafe fn text<'a>(text: ApplianceText) -> Result<&'a str, Refused> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(text) }?;
    str::from_utf8(bytes).map_err(|_| Refused::new(Errno::EINVAL, "the texts of metrics are UTF-8"))
}

/// # Safety
/// `first` is followed by `count - 1` others, which are valid for `'a`.
unsafe fn several<'a, T>(first: *const T, count: usize) -> Result<&'a [T], Errno> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() || count.checked_mul(size_of::<T>()).is_none_or(|size| size > isize::MAX as usize) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

fn kind_of(number: u32) -> Result<Kind, Refused> {
    match number {
        abi::APPLIANCE_COUNTER => Ok(Kind::Counter),
        abi::APPLIANCE_GAUGE => Ok(Kind::Gauge),
        abi::APPLIANCE_HISTOGRAM => Ok(Kind::Histogram),
        _ => Err(Refused::new(Errno::EINVAL, format!("there is no kind {number} of metrics"))),
    }
}

fn change_of(number: u32) -> Result<Change, Refused> {
    match number {
        abi::APPLIANCE_ADD => Ok(Change::Add),
        abi::APPLIANCE_SET => Ok(Change::Set),
        abi::APPLIANCE_MAX => Ok(Change::Raise),
        abi::APPLIANCE_MIN => Ok(Change::Lower),
        abi::APPLIANCE_OBSERVE => Ok(Change::Observe),
        _ => Err(Refused::new(Errno::EINVAL, format!("there is no change {number} of metrics"))),
    }
}

pub(super) unsafe extern "C" fn metric(metric: *const ApplianceMetric) -> i64 {
    answer(|| {
        // SAFETY: the caller promises a metric that is valid during the call, with all that it points to, or null.
        let ApplianceMetric { kind, name, help, labels, label_count, bounds, bound_count } =
            unsafe { metric.as_ref() }.ok_or(Errno::EFAULT)?;
        // SAFETY: likewise.
        let labels = unsafe { several(*labels, *label_count) }?;
        // SAFETY: likewise.
        let labels = labels.iter().map(|label| unsafe { text(*label) }).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: likewise.
        let (name, help, bounds) = unsafe { (text(*name)?, text(*help)?, several(*bounds, *bound_count)?) };
        let kind = kind_of(*kind)?;
        let wanted = Definition { name, kind, help, labels: &labels, bounds, initial: 0.0 };
        Ok(ours()?.define(&wanted)?.number())
    })
}

pub(super) unsafe extern "C" fn series(metric: i64, labels: *const ApplianceLabel, count: usize) -> i64 {
    answer(|| {
        let metrics = ours()?;
        let family = metrics.numbered_family(metric)?;
        // SAFETY: the caller promises so many labels that are valid during the call, with their texts.
        let labels = unsafe { several(labels, count) }?;
        // SAFETY: likewise.
        let labels = labels.iter().map(|label| unsafe { Ok((text(label.name)?, text(label.value)?)) });
        let labels = labels.collect::<Result<Vec<_>, Refused>>()?;
        Ok(metrics.numbered_series(family, &labels)?.number())
    })
}

pub(super) unsafe extern "C" fn change(series: i64, how: u32, value: f64) -> i32 {
    let changed = answer(|| {
        let metrics = ours()?;
        metrics.apply(metrics.numbered(series)?, change_of(how)?, value)?;
        Ok(0)
    });
    changed as i32
}

pub(super) unsafe extern "C" fn value(series: i64, value: *mut f64, observations: *mut u64) -> i32 {
    let told = answer(|| {
        let metrics = ours()?;
        let (number, count) = metrics.outcome(metrics.numbered(series)?);
        if !value.is_null() {
            // SAFETY: the caller promises a place for the number, or null.
            unsafe { value.write(number) };
        }
        if !observations.is_null() {
            // SAFETY: likewise.
            unsafe { observations.write(count) };
        }
        Ok(0)
    });
    told as i32
}

#[cfg(test)]
mod tests {
    use super::super::text_of;
    use super::*;
    use std::ptr;

    /// A metric that the table has made in this process's own memory.
    fn made(kind: u32, name: &str, bounds: &[f64]) -> i64 {
        if Metrics::here().is_none() {
            Metrics::create().unwrap().install();
        }
        let wanted = ApplianceMetric {
            kind,
            name: text_of(name.as_bytes()),
            help: text_of(b"Help."),
            labels: ptr::null(),
            label_count: 0,
            bounds: bounds.as_ptr(),
            bound_count: bounds.len(),
        };
        // SAFETY: all of it is there.
        unsafe { metric(&raw const wanted) }
    }

    #[test]
    fn a_metric_is_made_and_counted_in_over_the_interface() {
        let took = made(abi::APPLIANCE_HISTOGRAM, "table_took", &[1.0, 2.0]);
        let (mut sum, mut count) = (0.0, 0);
        // SAFETY: the places are there, and there are no labels.
        let codes = unsafe {
            let only = series(took, ptr::null(), 0);
            let changed = change(only, abi::APPLIANCE_OBSERVE, 1.5);
            [changed, value(only, &raw mut sum, &raw mut count), change(only, abi::APPLIANCE_SET, 1.0)]
        };
        assert_eq!((codes, sum, count), ([0, 0, -(Errno::EINVAL as i32)], 1.5, 1));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = -i64::from(Errno::EINVAL as i32);
        let wrong = [(9, "table_kind"), (abi::APPLIANCE_COUNTER, "1 name")];
        assert_eq!(wrong.map(|(kind, name)| made(kind, name, &[])), [refused; 2]);
        // SAFETY: null is refused.
        let codes = unsafe { [metric(ptr::null()), series(0, ptr::null(), 1), series(-1, ptr::null(), 0)] };
        let fault = -i64::from(Errno::EFAULT as i32);
        assert_eq!(codes, [fault, fault, refused]);
    }
}
