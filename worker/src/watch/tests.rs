use super::*;
use crate::inbox::Inbox;
use crate::reactor::Reactor;
use crate::report::Assembly;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::sync::mpsc::{Sender, channel};

/// Says what it was asked for.
struct Host(Sender<&'static str>);

impl Watched for Host {
    fn interrupt(&mut self) {
        let _ = self.0.send("interrupt");
    }

    fn loop_stack(&mut self) -> String {
        let _ = self.0.send("loop stack");
        String::new()
    }

    fn stacks(&mut self) -> Vec<StackReport> {
        vec![StackReport { stack: "x".repeat(3 * MAX_PACKET), ..StackReport::default() }]
    }
}

struct Site {
    watch: Watch,
    roll: Arc<Roll>,
    line: OwnedFd,
    calls: std::sync::mpsc::Receiver<&'static str>,
}

fn site(stall: Option<Duration>) -> Site {
    let (line, questions) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let roll = Arc::new(Roll::new(1, false, Instant::now()));
    let remote = Inbox::new(Reactor::new().unwrap().waker().unwrap()).remote();
    let (called, calls) = channel();
    let limit = Some(Duration::from_millis(20));
    let ledger = Arc::default();
    let post = Post { worker: 1, roll: Arc::clone(&roll), remote, ledger, questions, stall, limit };
    Site { watch: Watch::start(post, Host(called)).unwrap(), roll, line, calls }
}

fn ask(line: &OwnedFd, question: Question) -> Answer {
    send(line.as_raw_fd(), &question.encode(), MsgFlags::empty()).unwrap();
    let (mut assembly, mut packet) = (Assembly::default(), vec![0; MAX_PACKET]);
    loop {
        let length = recv(line.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
        if let Some(answer) = assembly.take(&packet[..length]).unwrap() {
            return answer;
        }
    }
}

#[test]
fn it_answers_while_the_loop_is_stuck_and_ends_when_it_is_told() {
    let site = site(None);
    send(site.line.as_raw_fd(), b"what?", MsgFlags::empty()).unwrap();
    assert_eq!(ask(&site.line, Question::Requests), Answer::Requests(Vec::new()));
    let Answer::Stacks(stacks) = ask(&site.line, Question::Stacks) else { panic!("no stacks") };
    assert_eq!(stacks[0].stack.len(), 3 * MAX_PACKET);
    site.watch.stop();
}

#[test]
fn a_loop_that_keeps_an_overdue_request_is_interrupted_and_one_that_stands_still_is_shown() {
    let site = site(Some(Duration::from_millis(100)));
    site.roll.set_due(Some(Instant::now()));
    let mut calls = Vec::new();
    while calls.len() < 2 {
        let call = site.calls.recv_timeout(Duration::from_secs(20)).unwrap();
        if !calls.contains(&call) {
            calls.push(call);
        }
    }
    assert_eq!(calls, ["interrupt", "loop stack"]);
    site.watch.stop();
}

#[test]
fn a_master_that_is_gone_is_not_waited_for() {
    let site = site(None);
    drop(site.line);
    site.roll.set_due(Some(Instant::now()));
    assert_eq!(site.calls.recv_timeout(Duration::from_secs(20)), Ok("interrupt"));
    site.watch.stop();
}
