//! `appliance top`: the status of a running appliance, once a second, on a terminal that it takes and gives back. Runs in a
//! process of its own, like every command; the master only knows that it is asked for its status. A thread asks, so that
//! keys are heard while the master does not answer. The files below: `rates` is what has changed between two
//! looks, `view` how it is drawn.
use crate::control::client::Master;
use crate::control::status::Status;
use crate::control::{Answer, Verb};
use crate::error::Error;
use crate::signals::{Signals, Wish};
use appliance_config::Whereabouts;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::IsTerminal;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

mod rates;
mod view;

use view::View;

/// How often the master is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a key may wait for its effect.
const GLANCE: Duration = Duration::from_millis(100);

/// Shows it until the user has seen enough. An error is the sentence that the command ends with, after the terminal is as it was.
pub fn run(whereabouts: Whereabouts) -> Result<(), Error> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Error::NoTerminal);
    }
    let signals = Signals::open().map_err(Error::system("open the signals"))?;
    // Whoever is not there is said before the screen is taken.
    let first = ask(&whereabouts)?;
    let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let view = View::new(first, has_color, Instant::now());
    // What there is to say of the way to the master has been said.
    let told = watch(Whereabouts { doubts: None, ..whereabouts });
    let mut screen = Screen::take()?;
    watch_keys(&mut screen.0, view, &told, &signals)
}

/// The terminal while it is ours; also a panic gives it back.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Screen, Error> {
        ratatui::try_init().map(Screen).map_err(Error::system("take the terminal"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the thread that asks has learned; an error is its last word.
type Told = Result<Status, Error>;

/// Asks in a thread, which ends with the process or with the first error.
fn watch(whereabouts: Whereabouts) -> Receiver<Told> {
    let (teller, told) = mpsc::channel();
    thread::spawn(move || {
        loop {
            thread::sleep(EVERY);
            let status = ask(&whereabouts);
            let is_over = status.is_err();
            if teller.send(status).is_err() || is_over {
                return;
            }
        }
    });
    told
}

fn ask(whereabouts: &Whereabouts) -> Told {
    let mut master = Master::find(whereabouts)?;
    match master.ask(Verb::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(master.odd("it did not tell its status")),
    }
}

fn watch_keys(
    terminal: &mut DefaultTerminal,
    mut view: View,
    told: &Receiver<Told>,
    signals: &Signals,
) -> Result<(), Error> {
    loop {
        let now = Instant::now();
        terminal.draw(|frame| view.draw(frame, now)).map_err(Error::system("draw on the terminal"))?;
        if event::poll(GLANCE).map_err(Error::system("read from the terminal"))? {
            let event = event::read().map_err(Error::system("read from the terminal"))?;
            if let Event::Key(key) = event
                && key.kind == KeyEventKind::Press
                && !on_key(key, &mut view)
            {
                return Ok(());
            }
        }
        // A terminal that goes away sends SIGHUP.
        let wish = signals.take().map_err(Error::system("read the signals"))?;
        if matches!(wish, Some(Wish::Stop | Wish::Reload)) {
            return Ok(());
        }
        while let Ok(status) = told.try_recv() {
            view.take(status?, Instant::now());
        }
    }
}

/// Whether to go on after this key.
fn on_key(key: KeyEvent, view: &mut View) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Up => view.scroll(-1),
        KeyCode::Down => view.scroll(1),
        KeyCode::PageUp => view.scroll(-20),
        KeyCode::PageDown => view.scroll(20),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_end_it_do_and_others_do_not() {
        let mut view = View::new(Status::default(), false, Instant::now());
        let mut goes_on = |code, modifiers| on_key(KeyEvent::new(code, modifiers), &mut view);
        let plain = KeyModifiers::NONE;
        for code in [KeyCode::Char('c'), KeyCode::Up, KeyCode::Down, KeyCode::Char('x')] {
            assert!(goes_on(code, plain), "{code:?}");
        }
        assert!(!goes_on(KeyCode::Char('q'), plain));
        assert!(!goes_on(KeyCode::Esc, plain));
        assert!(!goes_on(KeyCode::Char('c'), KeyModifiers::CONTROL));
    }
}
