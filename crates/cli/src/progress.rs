//! What goes on while a command takes its time.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::out::{Out, duration, printable};

/// How often a long build is told of where there is no terminal.
const TOLD: Duration = Duration::from_secs(15);

/// Tells people what goes on, on standard error; programs wait for the result.
pub(crate) struct Progress {
    began: Instant,
    silent: bool,
    bar: ProgressBar,
    told: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(out: &Out) -> Self {
        let silent = out.is_json();
        let target = if silent || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        let began = Instant::now();
        Self {
            began,
            silent,
            bar,
            told: Mutex::new(began),
        }
    }

    pub(crate) fn tell(&self, text: &str) {
        let text = printable(text);
        // A build has thousands of lines, and only the last one says where it is.
        let passing = text.starts_with("go ");
        if passing {
            self.bar.set_message(text.clone());
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.bar.is_hidden() || told.elapsed() < TOLD {
                return;
            }
            *told = Instant::now();
        }
        if self.silent {
            return;
        }
        let line = format!("{:>8}  {text}", duration(self.began.elapsed()));
        if self.bar.is_hidden() {
            let _closed = writeln!(std::io::stderr(), "{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
