//! Caches and metrics for the tests: `/cache?set+key+value` and so on, and what each call has given.
use appliance_app::cache::{Cache, Life};
use appliance_app::{Request, Response, Result, blocking, metrics};
use std::io::{self, Write};
use std::time::Duration;

fn words(request: &Request) -> Vec<String> {
    String::from_utf8_lossy(request.query()).split('+').map(str::to_owned).collect()
}

/// What a call has given, or the sentence that says why it has not.
fn told(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("{:?}: {error}", error.kind()))
}

/// A call of a cache.
pub fn cache(request: &Request, response: &mut Response) -> Result<()> {
    let words = words(request);
    let answer = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["on-a-thread", key] => {
            let key = key.to_owned();
            blocking(move || told(call(&["inc", &key, "1"])))?
        }
        ref words => told(call(words)),
    };
    Ok(writeln!(response, "{answer}")?)
}

fn call(words: &[&str]) -> io::Result<String> {
    let cache = Cache::first();
    Ok(match *words {
        ["get", key] => match cache.get(key)? {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => "nothing".to_owned(),
        },
        ["in", name, "set", key, value] => {
            format!("{:?}", Cache::named(name).set(key, value, Life::Configured)?)
        }
        ["set", key, value] => format!("{:?}", cache.set(key, value, Life::Forever)?),
        ["long", key, length] => {
            format!("{:?}", cache.set(key, vec![b'x'; length.parse().unwrap_or(0)], Life::Configured)?)
        }
        ["add", key, value] => cache.add(key, value, Duration::from_secs(60))?.to_string(),
        ["make", key, value] => {
            let made =
                cache.get_or_set(key, Life::Configured, || io::Result::Ok(value.as_bytes().to_vec()))?;
            String::from_utf8_lossy(&made).into_owned()
        }
        ["inc", key, by] => cache.increment(key, by.parse().unwrap_or(1), Life::Configured)?.to_string(),
        ["delete", key] => cache.delete(key)?.to_string(),
        ["has", key] => cache.contains(key)?.to_string(),
        ["life", key] => match cache.life(key)? {
            Some(Life::For(left)) => format!("{}", left <= Duration::from_secs(60)),
            other => format!("{other:?}"),
        },
        ["keys"] => {
            let mut keys: Vec<_> =
                cache.keys()?.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
            keys.sort_unstable();
            keys.join(" ")
        }
        ["stats"] => cache.stats()?,
        ["clear"] => format!("{:?}", cache.clear()?),
        _ => "no such call".to_owned(),
    })
}

/// Calls with less and less stack, down to the end.
pub fn edge(n: u64) -> io::Result<u64> {
    let room = std::hint::black_box([n; 16]);
    let cache = Cache::first();
    cache.set(format!("edge {}", n % 60), vec![b'x'; 20 * n as usize], Life::Configured)?;
    cache.increment("edge", 1, Life::Configured)?;
    cache.stats()?;
    metrics::gauge("native_edge", "How deep it has come.")?.set_max(n as f64);
    Ok(edge(n + 1)? + room[3])
}

/// Once, before the workers are forked.
pub fn load() -> Result<()> {
    appliance_app::log(appliance_app::Level::Info, "the library gets ready");
    if let Ok(why) = std::env::var("REFUSES") {
        return Err(why.into());
    }
    metrics::counter("native_loads_total", "How often it was loaded.")?.inc();
    Ok(())
}

/// A call of a metric.
pub fn metric(request: &Request, response: &mut Response) -> Result<()> {
    let words = words(request);
    let answer = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["order", kind, amount] => {
            let orders = metrics::counter_with("shop_orders_total", "Orders that were paid.", ["kind"])?;
            told(
                orders
                    .labels([kind])
                    .add(amount.parse()?)
                    .map(|()| orders.labels([kind]).value().to_string()),
            )
        }
        ["gauge"] => {
            let depth = metrics::gauge("native_depth", "How deep it is.")?;
            depth.set(5.0);
            depth.set_max(8.0);
            depth.set_min(7.0);
            let within = depth.track_in_progress();
            let deepest = depth.value();
            drop(within);
            format!("{deepest} {}", depth.value())
        }
        ["histogram"] => {
            let took = metrics::histogram("native_seconds", "How long it takes.", &[0.5, 1.0])?;
            took.observe(0.75);
            drop(took.time());
            format!("{} {}", took.count(), took.sum() < 1.0)
        }
        ["kind"] => told(metrics::gauge("shop_orders_total", "").map(|_| String::new())),
        _ => "no such call".to_owned(),
    };
    Ok(writeln!(response, "{answer}")?)
}
