//! The two sockets on which messages travel. *Orders*: a pair per template, master to template; when the master
//! closes its end, the template quits. *Reports*: one pair for the life of the master; every template and worker
//! inherits the writing end, and each packet carries the sender's process id as the kernel knows it.
use crate::message::{MAX_PACKET, Message};
use appliance_worker::reactor;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
    recvmsg, send, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::Pid;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Packets taken in one turn: more than the kernel queues on such a pair (`net.unix.max_dgram_qlen`, 512 at most in
/// distributions), and a bound for a sender that never stops.
const BATCH: usize = 1024;

/// The master's end of a template's orders.
#[derive(Debug)]
pub struct Orders(OwnedFd);

/// The template's end of its orders.
#[derive(Debug)]
pub struct Inbox(OwnedFd);

/// What a worker is born with, beside what its template has: its number, its listening socket, and its end of the line on
/// which the master asks it questions.
#[derive(Debug)]
pub struct Layette {
    /// From 1; stable across respawns.
    pub worker: u32,
    /// Which of the processes of this worker id it will be.
    pub life: u32,
    /// Listening unix socket.
    pub socket: OwnedFd,
    /// See [`questions`].
    pub questions: OwnedFd,
}

/// An order as it arrives.
#[derive(Debug)]
pub enum Order {
    /// Fork this worker.
    Fork(Layette),
    /// Exit; the workers stay.
    Quit,
}

/// Makes the pair. Packets keep their bounds, and a closed end is told from silence.
pub fn orders() -> io::Result<(Orders, Inbox)> {
    let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Orders(here), Inbox(there)))
}

/// Makes the line between the master, who gets the first end, and one worker. Packets keep their bounds.
pub fn questions() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

impl Orders {
    /// Orders a worker; never waits for a template that does not listen.
    pub fn fork(
        &self,
        worker: u32,
        life: u32,
        socket: BorrowedFd<'_>,
        questions: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let descriptors = [socket.as_raw_fd(), questions.as_raw_fd()];
        self.give(&Message::Fork { worker, life }, &[ControlMessage::ScmRights(&descriptors)])
    }

    /// Orders it to exit.
    pub fn quit(&self) -> io::Result<()> {
        self.give(&Message::Quit, &[])
    }

    fn give(&self, order: &Message, with: &[ControlMessage<'_>]) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&order.encode())], with, flags, None)?;
        Ok(())
    }
}

impl Inbox {
    /// The next order, which `poll` announced; `Quit` when the master has closed its end.
    pub fn take(&self) -> io::Result<Option<Order>> {
        let (mut buffer, mut control) = ([0; 256], nix::cmsg_space!([RawFd; 2]));
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for part in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                for number in numbers {
                    descriptors.push(reactor::adopt(number)?);
                }
            }
        }
        let length = received.bytes;
        if length == 0 {
            return Ok(Some(Order::Quit));
        }
        Ok(match (Message::decode(&buffer[..length]), descriptors.pop(), descriptors.pop()) {
            (Some(Message::Quit), ..) => Some(Order::Quit),
            (Some(Message::Fork { worker, life }), Some(questions), Some(socket)) => {
                Some(Order::Fork(Layette { worker, life, socket, questions }))
            }
            _ => None,
        })
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The master's end of the reports.
#[derive(Debug)]
pub struct Reports {
    fd: OwnedFd,
    packet: Vec<u8>,
    control: Vec<u8>,
}

/// The end that templates and workers inherit.
#[derive(Debug)]
pub struct Reporter(OwnedFd);

/// Makes the pair.
pub fn reports() -> io::Result<(Reports, Reporter)> {
    let (here, there) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC)?;
    setsockopt(&here, sockopt::PassCred, &true)?;
    let reports =
        Reports { fd: here, packet: vec![0; MAX_PACKET], control: nix::cmsg_space!(UnixCredentials) };
    Ok((reports, Reporter(there)))
}

impl Reports {
    /// Takes what has arrived, each with its sender. Packets that are no message are dropped.
    pub fn take_all(&mut self) -> io::Result<Vec<(Pid, Message)>> {
        let mut taken = Vec::new();
        for _ in 0..BATCH {
            let Some(report) = self.take()? else { break };
            taken.extend(report);
        }
        Ok(taken)
    }

    /// `None`: nothing more has arrived. `Some(None)`: something that is no message.
    fn take(&mut self) -> io::Result<Option<Option<(Pid, Message)>>> {
        let mut parts = [IoSliceMut::new(&mut self.packet)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(self.fd.as_raw_fd(), &mut parts, Some(&mut self.control), flags) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Whoever sends descriptors along has them closed by the kernel, and is not heard.
        let sender = received.cmsgs().ok().and_then(|mut parts| {
            parts.find_map(|part| match part {
                ControlMessageOwned::ScmCredentials(credentials) => Some(Pid::from_raw(credentials.pid())),
                _ => None,
            })
        });
        let length = received.bytes;
        Ok(Some(sender.zip(Message::decode(&self.packet[..length]))))
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Reporter {
    /// Sends a report; waits while the master is busy. A master that is gone is no error of the sender's: its end is
    /// near.
    pub fn report(&self, message: &Message) {
        while let Err(Errno::EINTR) = send(self.0.as_raw_fd(), &message.encode(), MsgFlags::MSG_NOSIGNAL) {}
    }

    /// A second descriptor of the same end, to hand to a child.
    pub fn try_clone(&self) -> io::Result<Reporter> {
        Ok(Reporter(self.0.try_clone()?))
    }
}

impl AsFd for Reporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MAX_TEXT;
    use nix::sys::socket::recv;

    #[test]
    fn reports_arrive_in_order_and_name_their_sender() {
        let (mut reports, reporter) = reports().unwrap();
        let long = Message::LoadFailed { code: 1, text: "x\n".repeat(MAX_TEXT / 2) };
        reporter.report(&Message::Forked { worker: 2, generation: 0, life: 0 });
        reporter.try_clone().unwrap().report(&long);
        let me = Pid::this();
        assert_eq!(
            reports.take_all().unwrap(),
            [(me, Message::Forked { worker: 2, generation: 0, life: 0 }), (me, long)]
        );
        assert_eq!(reports.take_all().unwrap(), []);
    }

    #[test]
    fn garbage_between_reports_is_dropped() {
        let (mut reports, reporter) = reports().unwrap();
        send(reporter.as_fd().as_raw_fd(), b"\xff", MsgFlags::empty()).unwrap();
        reporter.report(&Message::Ready);
        assert_eq!(reports.take_all().unwrap(), [(Pid::this(), Message::Ready)]);
    }

    #[test]
    fn descriptors_that_a_worker_sends_along_do_not_end_the_master() {
        let (mut reports, reporter) = reports().unwrap();
        let descriptors = [0; 3].map(|_| reporter.as_fd().as_raw_fd());
        let with = [ControlMessage::ScmRights(&descriptors)];
        let text = Message::Ready.encode();
        let parts = [IoSlice::new(&text)];
        sendmsg::<()>(descriptors[0], &parts, &with, MsgFlags::empty(), None).unwrap();
        reporter.report(&Message::Ready);
        assert_eq!(reports.take_all().unwrap(), [(Pid::this(), Message::Ready)]);
    }

    #[test]
    fn a_master_that_closes_its_end_means_quit() {
        let (orders, inbox) = orders().unwrap();
        assert!(inbox.take().unwrap().is_none());
        let (mine, workers) = questions().unwrap();
        let (socket, client) = questions().unwrap();
        orders.fork(9, 4, socket.as_fd(), workers.as_fd()).unwrap();
        drop((orders, workers, socket));
        let Some(Order::Fork(layette)) = inbox.take().unwrap() else { panic!("no order") };
        assert_eq!((layette.worker, layette.life), (9, 4));
        for (here, there) in [(&mine, &layette.questions), (&client, &layette.socket)] {
            send(there.as_raw_fd(), b"?", MsgFlags::empty()).unwrap();
            assert_eq!(recv(here.as_raw_fd(), &mut [0; 9], MsgFlags::MSG_DONTWAIT), Ok(1));
        }
        assert!(matches!(inbox.take().unwrap(), Some(Order::Quit)));
    }
}
