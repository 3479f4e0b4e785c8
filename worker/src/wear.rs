//! How many requests one process of a worker serves before another takes its place (`workers.max_requests`). Pure; the worker
//! says when it is there, and the master, who believes only the board, counts the same way.

/// By how much the number of one process may differ, in thousandths: they shall not all be due at once.
const SPREAD: u64 = 100;

/// `max_requests` give or take a tenth, at least 1: another number for each worker, and for each of its lives. `None`: no limit.
pub fn limit(max_requests: u64, worker: u32, life: u32) -> Option<u64> {
    // Steps of 73 and 31 meet every thousandth of the range, and neighbours far apart.
    let step = (u64::from(worker) * 73 + u64::from(life) * 31) % (2 * SPREAD + 1);
    let part = |thousandths: u64| u64::try_from(u128::from(max_requests) * u128::from(thousandths) / 1000);
    let limit = part(1000 - SPREAD + step).unwrap_or(u64::MAX);
    (max_requests > 0).then(|| limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_a_life_differ_by_a_tenth_at_most_and_between_neighbours() {
        let limits: Vec<u64> = (1..=200).map(|worker| limit(10_000, worker, 0).unwrap()).collect();
        assert!(limits.iter().all(|limit| (9_000..=11_000).contains(limit)), "{limits:?}");
        assert!(limits.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 100), "{limits:?}");
        let small = |life| limit(1, 3, life) == Some(1) && limit(10, 3, life).unwrap().abs_diff(10) <= 1;
        assert!((0..9).all(small));
        assert_ne!(limit(10_000, 1, 0), limit(10_000, 1, 1));
        assert_eq!((limit(0, 1, 0), limit(u64::MAX, 1, 0)), (None, limit(u64::MAX, 1, 0)));
    }
}
