//! Work spread over the processor's cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `of` with each of `all` on several threads (at most 8); gives the results in order.
///
/// # Errors
/// The first that `of` reports.
pub fn parallel<T: Sync, R: Send, E: Send>(all: &[T], of: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(all.len()).min(8);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { return done };
            done.push((at, of(one)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        // Where no further thread can be had, there are fewer workers.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..workers).map_while(start).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_is_given() {
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(parallel(&all, |&n| Ok::<_, ()>(n * 2)), Ok(all.iter().map(|n| n * 2).collect()));
        assert_eq!(parallel(&all, |&n| if n % 40 == 39 { Err(n) } else { Ok(n) }), Err(39));
        assert_eq!(parallel(&[] as &[usize], |_| Ok::<usize, ()>(1)), Ok(vec![]));
    }
}
