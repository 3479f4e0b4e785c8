//! Questions of others about our caches: what each means in words of [`crate::cache`]. Called on the loop; a write waits for
//! its turn as the worker's own would.
use super::asked::{Action, Answered, Asked, Count};
use crate::cache::{Cache, Caches, Math, Mode, Refusal};
use std::time::Duration;

/// Answers a question about the cache of this name; `value` is what was sent to be written. A refusal is a "no", and the log
/// says why.
pub fn answer(cache: &str, asked: &Asked, value: &[u8]) -> Answered {
    let Some(cache) = Caches::here().named(cache) else { return Answered::No };
    perform(cache, asked, value).unwrap_or_else(|refusal| {
        tracing::warn!("cache {:?}, asked by another server: {refusal}", cache.name());
        Answered::No
    })
}

fn perform(cache: &Cache, asked: &Asked, value: &[u8]) -> Result<Answered, Refusal> {
    let life = life(asked.expires);
    let yes = |is_done: bool| if is_done { Answered::Yes } else { Answered::No };
    Ok(match asked.action {
        Action::Get => cache.get(&asked.key)?.map_or(Answered::No, Answered::Value),
        Action::Exists => yes(cache.exists(&asked.key)?),
        Action::Delete => yes(cache.delete(&asked.key)?),
        Action::Clear => {
            cache.clear()?;
            Answered::Yes
        }
        // uWSGI stores no empty value.
        Action::Set(0) | Action::Update(0) => Answered::No,
        Action::Set(_) => yes(cache.put(&asked.key, value, life, Mode::Add)?),
        Action::Update(_) => yes(cache.put(&asked.key, value, life, Mode::Set)?),
        Action::Count(how, operand) => {
            let number = cache.calculate(&asked.key, math(how, operand), life)?;
            Answered::Value(number.to_string().into_bytes())
        }
    })
}

/// Seconds on the wire, where 0 is none, as the life of an item.
fn life(expires: u64) -> Option<Duration> {
    (expires > 0).then(|| Duration::from_secs(expires))
}

fn math(how: Count, operand: i64) -> Math {
    match how {
        Count::Add => Math::Add(operand),
        Count::Subtract => Math::Subtract(operand),
        Count::Multiply => Math::Multiply(operand),
        Count::Divide => Math::Divide(operand),
    }
}
