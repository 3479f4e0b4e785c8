use super::*;
use crate::areas::tests::Alone;
use crate::shared::{create_sealed, map_for_good};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

const MOST: usize = 20;

struct Site {
    memory: OwnedFd,
    slots: u32,
}

impl Site {
    fn new(slots: u32) -> Site {
        Site { memory: create_sealed(c"test", Site::size(slots)).unwrap(), slots }
    }

    fn size(slots: u32) -> NonZeroUsize {
        NonZeroUsize::new(size(slots, MOST)).unwrap()
    }

    fn bytes(&self) -> &'static [AtomicU8] {
        map_for_good(&self.memory, Site::size(self.slots)).unwrap()
    }

    /// As another process has it.
    fn queue(&self) -> Queue {
        let memory = self.memory.as_fd().try_clone_to_owned().unwrap();
        Queue::new(self.bytes(), self.slots, MOST, Arc::new(Gate::new(memory)), 0)
    }
}

fn push(queue: &Queue, message: &str) -> bool {
    queue.push(message.as_bytes(), &Alone).unwrap()
}

fn text(message: io::Result<Option<Vec<u8>>>) -> Option<String> {
    message.unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn pull(queue: &Queue) -> Option<String> {
    text(queue.pull(&Alone))
}

#[test]
fn it_is_taken_from_both_ends() {
    let queue = Site::new(4).queue();
    assert!(["a", "b", "c", "d"].iter().all(|message| push(&queue, message)));
    assert_eq!((text(queue.pop(&Alone)), pull(&queue)), (Some("d".into()), Some("a".into())));
    assert_eq!(queue.slots(&Alone).unwrap(), (3, 1));
    assert_eq!([pull(&queue), pull(&queue), pull(&queue)], [Some("b".into()), Some("c".into()), None]);
}

#[test]
fn what_is_taken_from_an_empty_one_does_not_move_it() {
    let queue = Site::new(4).queue();
    for _ in 0..5 {
        assert_eq!((text(queue.pop(&Alone)), pull(&queue)), (None, None));
    }
    assert!(push(&queue, "1") && push(&queue, "2"));
    assert_eq!([pull(&queue), pull(&queue), pull(&queue)], [Some("1".into()), Some("2".into()), None]);
}

#[test]
fn a_full_one_loses_its_oldest_message() {
    let queue = Site::new(3).queue();
    for n in 0..7 {
        assert!(push(&queue, &n.to_string()));
    }
    let last = queue.last(9, &Alone).unwrap();
    assert_eq!(last, ["6", "5", "4"].map(|text| Some(text.as_bytes().to_vec())));
    assert_eq!([pull(&queue), pull(&queue)], [Some("4".into()), Some("5".into())]);
    assert_eq!(queue.last(2, &Alone).unwrap(), [Some(b"6".to_vec()), None]);
}

#[test]
fn messages_are_not_empty_and_fit_a_slot() {
    let queue = Site::new(2).queue();
    assert!(!push(&queue, "") && push(&queue, &"x".repeat(MOST)) && !push(&queue, &"x".repeat(MOST + 1)));
    assert_eq!(pull(&queue), Some("x".repeat(MOST)));
    assert!(!queue.set(0, b"", &Alone).unwrap() && !queue.set(2, b"x", &Alone).unwrap());
}

#[test]
fn a_slot_is_read_and_written_by_its_number_and_counts_only_where_the_ring_is() {
    let queue = Site::new(4).queue();
    assert!(push(&queue, "a") && push(&queue, "b"));
    assert!(queue.set(1, b"B", &Alone).unwrap() && queue.set(3, b"far", &Alone).unwrap());
    assert_eq!(text(queue.get(3, &Alone)), Some("far".into()));
    assert_eq!([text(queue.get(2, &Alone)), text(queue.get(u32::MAX, &Alone))], [None, None]);
    assert_eq!([pull(&queue), pull(&queue), pull(&queue)], [Some("a".into()), Some("B".into()), None]);
    assert!(push(&queue, "c") && push(&queue, "d"));
    assert_eq!([pull(&queue), pull(&queue)], [Some("c".into()), Some("d".into())]);
}

#[test]
fn a_writer_that_dies_in_the_middle_leaves_the_slot_as_it_was() {
    let queue = Site::new(2).queue();
    assert!(push(&queue, "whole") && queue.set(0, b"again", &Alone).unwrap());
    let is_second = queue.word(0).unwrap().load(Relaxed) & SECOND == 0;
    copy::into(queue.room(0, is_second), b"ha");
    assert_eq!(pull(&queue), Some("again".into()));
}

#[test]
fn any_bytes_in_the_memory_harm_nobody() {
    let site = Site::new(3);
    let queue = site.queue();
    for garbage in [u8::MAX, 0x7f, 0x01] {
        site.bytes().iter().for_each(|byte| byte.store(garbage, Relaxed));
        let lengths = queue.last(3, &Alone).unwrap().into_iter().flatten().map(|message| message.len());
        assert!(lengths.max().unwrap_or(0) <= MOST);
        assert!(queue.pop(&Alone).is_ok() && queue.pull(&Alone).is_ok() && push(&queue, "x"));
        assert!(queue.get(1, &Alone).is_ok());
    }
}

#[test]
fn what_many_push_and_pull_at_once_is_there_exactly_once() {
    const EACH: usize = 300;
    let site = Site::new(4 * EACH as u32);
    let pushed = |writer: usize| (0..EACH).map(move |n| format!("{writer}:{n}"));
    let mut found: Vec<String> = thread::scope(|scope| {
        for writer in 0..3 {
            let queue = site.queue();
            scope.spawn(move || pushed(writer).for_each(|message| assert!(push(&queue, &message))));
        }
        let readers = [0, 1].map(|_| {
            let queue = site.queue();
            scope.spawn(move || (0..EACH).filter_map(|_| pull(&queue)).collect::<Vec<_>>())
        });
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let queue = site.queue();
    found.extend(std::iter::from_fn(|| pull(&queue)));
    assert_eq!(found.len(), 3 * EACH);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), (0..3).flat_map(pushed).collect());
}
