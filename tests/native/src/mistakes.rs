//! What an application should not do: each is answered, told or forgiven, and harms no other request.
use crate::Guard;
use appliance_app::{Response, Result, Task, blocking, sleep, spawn};
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Where a coroutine finds the one that it is to wait for.
type Place = Rc<RefCell<Option<Task<()>>>>;

/// Serves `/mistake/NAME/NUMBER`.
pub fn handle(name: &str, number: u64, response: &mut Response) -> Result<()> {
    match name {
        "circle" => circle(number as usize, response),
        "crowd" => crowd(number, response),
        "one-by-one" => {
            (0..number).try_for_each(|_| spawn(|| ()).map(drop))?;
            Ok(writeln!(response, "{number}")?)
        }
        "stale" => stale(response),
        "ended" => {
            ended();
            Ok(())
        }
        "length" => {
            response.header("Content-Length", number.to_string())?;
            Ok(response.write_all(b"0123456789")?)
        }
        "after-all" => {
            response.header("Content-Length", "5")?;
            response.write_all(b"whole")?;
            response.flush()?;
            Err("it failed after all".into())
        }
        "refused" => {
            let refused = response.header("Connection", "close, upgrade").unwrap_err();
            Ok(writeln!(response, "{refused}")?)
        }
        "header" => Ok(response.header("X-A", "b\r\nX-B: c")?),
        "status" => Ok(response.status(number as u16)?),
        "late" => {
            response.flush()?;
            Ok(response.status(404)?)
        }
        "forgiven" => {
            let _ = response.status(999);
            Err("something else".into())
        }
        "blocking" => Ok(blocking(|| panic!("on a thread"))?),
        _ => Ok(response.status(404)?),
    }
}

/// Coroutines that wait for one another in a circle.
fn circle(length: usize, response: &mut Response) -> Result<()> {
    let places: Vec<Place> = (0..length).map(|_| Place::default()).collect();
    let said = Rc::new(RefCell::new(Vec::new()));
    for n in 0..length {
        let (next, said) = (Rc::clone(&places[(n + 1) % length]), Rc::clone(&said));
        let task = spawn(move || {
            sleep(Duration::from_millis(1));
            let joined = next.take().map(Task::join);
            said.borrow_mut().push(joined.and_then(Result::err).map(|error| error.kind()));
        })?;
        places[n].replace(Some(task));
    }
    while said.borrow().len() < length {
        sleep(Duration::from_millis(1));
    }
    Ok(writeln!(response, "{:?}", said.borrow())?)
}

/// As many coroutines at once as there may be. They are ended with the request.
fn crowd(number: u64, response: &mut Response) -> Result<()> {
    let begin = |_| spawn(|| sleep(Duration::from_secs(3600)));
    let mut tasks = Vec::new();
    let refused = (0..number).map(begin).find_map(|task| task.map(|task| tasks.push(task)).err());
    let count = tasks.len();
    Ok(writeln!(
        response,
        "{count} {}",
        refused.map_or_else(String::new, |error: io::Error| error.to_string())
    )?)
}

/// Waits for a coroutine whose place another one has by now.
fn stale(response: &mut Response) -> Result<()> {
    let first = spawn(|| 1)?;
    let second = spawn(|| {
        sleep(Duration::from_millis(1));
        2
    })?;
    Ok(writeln!(response, "{} {}", first.join()?, second.join()?)?)
}

/// Goes on although its request has been ended.
fn ended() {
    let _ = catch_unwind(|| sleep(Duration::from_secs(3600)));
    let guard = Guard("never begun");
    let _ = catch_unwind(AssertUnwindSafe(|| spawn(move || drop(guard))));
}
