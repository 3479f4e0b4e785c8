//! What an application asks of other servers, in blocking style: of their caches and of their procedures. One connection for
//! each question, as uWSGI does it. Called wherever something can wait (see [`Suspend`]), never on the loop itself.
use super::address::Address;
use super::asked::{self, Action, Answered, Asked, DICTIONARY};
use super::client::{Failure, Wire};
use super::packet::{self, Body, CACHE, RPC};
use crate::suspend::Suspend;
use std::time::{Duration, Instant};

/// Modifier 2 of an answer whose body says in `CONTENT_LENGTH` how long the result is that follows it.
pub const LONG_RESULT: u8 = 5;
/// Modifier 2 of a call between workers of one appliance: whoever asks wants to hear why there is no result.
pub const REASONED: u8 = 32;
/// Modifier 2 of an answer whose body says why there is no result, to a call with [`REASONED`].
pub const REFUSAL: u8 = 33;

/// How other servers are asked.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// Who waits.
    pub suspend: &'a dyn Suspend,
    /// How long one question may take in all (`timeouts.remote`).
    pub timeout: Duration,
    /// The longest answer that is taken, in bytes.
    pub most: usize,
}

impl Remote<'_> {
    fn connect<'a>(&'a self, address: &'a Address) -> Result<Wire<'a>, Failure> {
        Wire::connect(address, self.suspend, Instant::now() + self.timeout)
    }

    /// Asks a cache. `value` follows a question that sets one. That there is no such item, or that it cannot be written, is
    /// an answer too.
    pub fn ask_cache(&self, address: &Address, asked: &Asked, value: &[u8]) -> Result<Answered, Failure> {
        let packet = asked.packet()?;
        let wire = self.connect(address)?;
        let answered =
            wire.send(&packet).and_then(|()| wire.send(value)).and_then(|()| wire.receive_packet());
        let (header, body) = match answered {
            Err(Failure::Refused(_)) => return Ok(Answered::No),
            answered => answered?,
        };
        if header.modifier1 != CACHE || header.modifier2 != DICTIONARY {
            return Err(wire.garbled("it is not about a cache"));
        }
        match asked::read_answer(&body).map_err(wire.malformed())? {
            None => Ok(Answered::No),
            Some(size) if asked.action == Action::Get => {
                Ok(Answered::Value(wire.receive_rest(size, self.most)?))
            }
            Some(_) => Ok(Answered::Yes),
        }
    }

    /// Calls a procedure. An answer without bytes is what uWSGI gives for one that it does not know; it closes the connection
    /// if the procedure fails.
    pub fn call(&self, address: &Address, name: &str, args: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.exchange(address, name, args, 0)
    }

    /// Calls a procedure of another worker of this appliance, which says why it fails.
    pub fn call_worker(&self, address: &Address, name: &str, args: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.exchange(address, name, args, REASONED)
    }

    fn exchange(
        &self,
        address: &Address,
        name: &str,
        args: &[&[u8]],
        modifier2: u8,
    ) -> Result<Vec<u8>, Failure> {
        let body = Body::default().item(name.as_bytes());
        let packet = args.iter().fold(body, |body, arg| body.item(arg)).packet(RPC, modifier2)?;
        let wire = self.connect(address)?;
        wire.send(&packet)?;
        let (header, body) = wire.receive_packet()?;
        if header.modifier1 != RPC {
            return Err(wire.garbled("it is not of a procedure"));
        }
        match header.modifier2 {
            LONG_RESULT => {}
            REFUSAL if modifier2 == REASONED => {
                return Err(Failure::Failed(String::from_utf8_lossy(&body).into_owned()));
            }
            _ => return Ok(body),
        }
        let vars = packet::vars(&body).map_err(wire.malformed())?;
        let length = vars
            .iter()
            .find(|(name, _)| *name == b"CONTENT_LENGTH")
            .and_then(|(_, value)| packet::number(value));
        wire.receive_rest(length.ok_or_else(|| wire.garbled("it does not say how long it is"))?, self.most)
    }
}
