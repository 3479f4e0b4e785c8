use super::*;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// Waits as a thread does.
pub struct Alone;

impl Suspend for Alone {
    fn ready(&self, _: RawFd, _: mio::Interest, _: Option<Instant>) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sleep_until(&self, when: Instant) -> io::Result<()> {
        thread::sleep(when.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

/// The same area of so many bytes, in as many processes.
fn areas<const N: usize>(size: usize) -> [Area; N] {
    let size = NonZeroUsize::new(size).unwrap();
    let memory = shared::create_sealed(c"test", size).unwrap();
    [(); N].map(|()| {
        let bytes = shared::map_for_good(&memory, size).unwrap();
        let gate = Arc::new(Gate::new(memory.as_fd().try_clone_to_owned().unwrap()));
        Area { bytes, gate, lock: 1 }
    })
}

#[test]
fn bytes_are_read_where_they_were_written_and_nowhere_outside() {
    let [here, there] = areas(100);
    here.write(3, b"some text of more than two words", &Alone).unwrap();
    assert_eq!(there.read(8, 11, &Alone).unwrap(), b"text of mor");
    assert_eq!(there.read(90, 0, &Alone).unwrap(), [0; 10]);
    for (at, length) in [(90, 11), (100, 0), (101, 1), (usize::MAX, 1), (1, usize::MAX)] {
        assert!(matches!(here.read(at, length, &Alone), Err(Failed::Outside(100))), "{at} {length}");
    }
    assert!(here.write(99, b"ab", &Alone).is_err() && here.write(98, b"ab", &Alone).is_ok());
    assert!(here.number(93, Width::W64, &Alone).is_err());
}

#[test]
fn numbers_have_a_sign_and_begin_again_at_the_other_end() {
    let [area] = areas(64);
    // Aligned, and not.
    for at in [16, 17] {
        for (width, most) in [
            (Width::W8, i64::from(i8::MAX)),
            (Width::W16, i64::from(i16::MAX)),
            (Width::W32, i64::from(i32::MAX)),
            (Width::W64, i64::MAX),
        ] {
            let number = || area.number(at, width, &Alone).unwrap();
            area.write(at, &[0; 16], &Alone).unwrap();
            area.set_number(at, width, -5, &Alone).unwrap();
            assert_eq!(number(), -5);
            area.set_number(at, width, most, &Alone).unwrap();
            area.add(at, width, 2, &Alone).unwrap();
            assert_eq!(number(), -most, "{at} {width:?}");
            let after = at + width.bytes();
            assert_eq!(area.read(after, 1, &Alone).unwrap(), [0], "{at} {width:?}");
        }
    }
    area.set_number(0, Width::W8, 200, &Alone).unwrap();
    assert_eq!(area.number(0, Width::W8, &Alone).unwrap(), -56);
}

#[test]
fn no_count_is_lost_wherever_it_lies() {
    let areas = areas::<4>(64);
    thread::scope(|scope| {
        for area in &areas {
            scope.spawn(move || {
                for _ in 0..500 {
                    area.add(8, Width::W64, 1, &Alone).unwrap();
                    area.add(21, Width::W32, 2, &Alone).unwrap();
                }
            });
        }
    });
    let counts = [(8, Width::W64), (21, Width::W32)].map(|(at, width)| areas[0].number(at, width, &Alone));
    assert_eq!(counts.map(Result::unwrap), [2000, 4000]);
}

#[test]
fn nobody_reads_half_of_what_is_written() {
    let [writer, reader] = areas(5000);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..500_u32 {
                writer.write(1, &[n as u8; 4000], &Alone).unwrap();
            }
            is_over.store(true, Relaxed);
        });
        while !is_over.load(Relaxed) {
            let read = reader.read(1, 4000, &Alone).unwrap();
            assert!(read.iter().all(|byte| *byte == read[0]));
        }
    });
}

#[test]
fn who_is_stopped_in_the_middle_is_not_waited_for_without_an_end() {
    let [here, there] = areas(64);
    let waited = here.gate.pass(1, Access::Read, &Alone, || {
        let beside = there.read(0, 1, &Alone);
        (
            beside.is_ok(),
            there.gate.pass(2, Access::Write, &Alone, || ()).is_ok(),
            there.write(0, b"a", &Alone),
        )
    });
    let (reads_beside, has_other_lock, written) = waited.unwrap();
    assert!(reads_beside && has_other_lock);
    let Err(Failed::Wait(error)) = written else { panic!("{written:?}") };
    assert!(error.to_string().contains("stands still in the middle"), "{error}");
    assert!(there.write(0, b"a", &Alone).is_ok());
}
