//! How far the work is, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// A count of steps towards an end, shown with the time left.
pub(crate) struct Meter {
    title: String,
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
    total: usize,
}

/// A [`Meter`] whose total is known only once the work is under way.
pub(crate) struct LateMeter {
    title: &'static str,
    meter: OnceLock<Meter>,
}

/// The bytes of one file as they come, on a terminal; elsewhere nothing is said.
pub(crate) struct ByteMeter(Option<ProgressBar>);

struct Lines {
    began: Instant,
    first: Option<usize>,
    last: Option<Instant>,
}

impl Meter {
    /// A meter that counts to `total`.
    pub(crate) fn new(title: impl Into<String>, total: usize) -> Self {
        let title = title.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix:>10} {bar:28} {pos}/{len} {elapsed} left {eta}  {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            let bar = ProgressBar::new(total as u64).with_style(style).with_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let lines = Mutex::new(Lines { began: Instant::now(), first: None, last: None });
        Self { title, bar, lines, total }
    }

    /// Says that `done` of the total are done, and how it goes.
    pub(crate) fn at(&self, done: usize, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
            bar.set_position(done as u64);
            return;
        }
        let mut lines = self.lines.lock().expect("nothing panics while it writes a line");
        let due = lines.last.is_none_or(|last| last.elapsed() >= BETWEEN_LINES);
        if due || done == self.total {
            let left = lines.left(done, self.total);
            eprintln!("{}: {done}/{} {left} {message}", self.title, self.total);
            lines.last = Some(Instant::now());
        }
    }

    /// Says something without disturbing the bar.
    pub(crate) fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.println(message),
            None => eprintln!("{message}"),
        }
    }
}

impl LateMeter {
    /// A meter that shows itself with the first count.
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, meter: OnceLock::new() }
    }

    /// Says that `done` of `total` are done; the total stays what it was at first.
    pub(crate) fn at(&self, done: usize, total: usize) {
        self.meter.get_or_init(|| Meter::new(self.title, total)).at(done, "");
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

impl ByteMeter {
    /// A meter of the file of this name.
    pub(crate) fn new(file: &str) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let style = "{prefix} {bar:28} {bytes}/{total_bytes} {bytes_per_sec} left {eta}";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            ProgressBar::no_length().with_style(style).with_prefix(file.to_owned())
        }))
    }

    /// Says how much is there already, and how much there will be if that is known.
    pub(crate) fn begin(&self, have: u64, size: Option<u64>) {
        if let Some(bar) = &self.0 {
            size.map_or_else(|| bar.unset_length(), |size| bar.set_length(size));
            bar.set_position(have);
            bar.reset_eta();
        }
    }

    /// Says that so many bytes more have come.
    pub(crate) fn add(&self, bytes: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes as u64);
        }
    }
}

impl Drop for ByteMeter {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    /// The time left at the pace since the first count; a resumed run does not begin at 0.
    fn left(&mut self, done: usize, total: usize) -> String {
        let Some(first) = self.first else {
            self.first = Some(done);
            self.began = Instant::now();
            return String::new();
        };
        let Some(n_done) = done.checked_sub(first).filter(|n| *n > 0) else {
            return String::new();
        };
        let pace = self.began.elapsed().as_secs_f64() / n_done as f64;
        format!("left {}", clock(pace * total.saturating_sub(done) as f64))
    }
}

/// Seconds as `1:02:03` or `2:03`.
pub(crate) fn clock(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn clocks_read_like_clocks() {
        assert_eq!(clock(0.4), "0:00");
        assert_eq!(clock(123.0), "2:03");
        assert_eq!(clock(3723.0), "1:02:03");
        assert_eq!(clock(-1.0), "0:00");
    }
}
