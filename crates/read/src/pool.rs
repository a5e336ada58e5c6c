//! The other end of a worker: it starts it, waits for it no longer than allowed, and starts another
//! when it has died.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::piece::{ReadError, Reading};
use crate::worker::{Job, Told, collect};

/// An answer that is longer is none.
const LONGEST_ANSWER: u64 = 1 << 30;

/// What reading one file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds by the clock.
    pub seconds: u64,
    /// MB of memory.
    pub memory_mb: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { seconds: 120, memory_mb: 2048 }
    }
}

/// One worker process at a time. To read several files at once, have several pools.
pub struct Pool {
    start: Box<dyn Fn() -> Command + Send>,
    bounds: Bounds,
    scratch: PathBuf,
    worker: Option<Worker>,
}

struct Worker {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<std::io::Result<Vec<u8>>>,
}

impl Pool {
    /// A pool whose workers are started by `start`: a command that calls [`crate::worker::serve`].
    /// `scratch` is an empty folder of its own.
    pub fn new(
        start: impl Fn() -> Command + Send + 'static,
        bounds: Bounds,
        scratch: PathBuf,
    ) -> Self {
        Self { start: Box::new(start), bounds, scratch, worker: None }
    }

    /// Where jobs must say that pictures go.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone()
    }

    /// Reads a file in the worker.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, when reading it takes longer or more memory than it may, or
    /// when the worker dies of it.
    pub fn read(&mut self, job: &Job) -> Result<Reading, ReadError> {
        let told = self.ask(job);
        let reading = match told {
            Ok(told) => told.map_err(ReadError::new)?,
            Err(error) => {
                self.end();
                self.clear_scratch();
                return Err(error);
            }
        };
        collect(reading, &self.scratch).map_err(ReadError::from)
    }

    fn ask(&mut self, job: &Job) -> Result<Told, ReadError> {
        let text = serde_json::to_string(job).map_err(|e| ReadError::new(e.to_string()))?;
        if self.worker.is_none() {
            self.worker = Some(Worker::start((self.start)())?);
        }
        let seconds = self.bounds.seconds;
        let worker = self.worker.as_mut().expect("it was just started");
        let died = |_| ReadError::new("the worker that reads files died");
        worker.jobs.write_all(text.as_bytes()).map_err(died)?;
        worker.jobs.write_all(b"\n").map_err(died)?;
        match worker.answers.recv_timeout(Duration::from_secs(seconds)) {
            Ok(Ok(line)) if line.ends_with(b"\n") => {
                serde_json::from_slice(&line).map_err(|e| ReadError::new(e.to_string()))
            }
            Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => {
                Err(worker.cause_of_death(&self.bounds))
            }
            Ok(Err(error)) => Err(ReadError::from(error)),
            Err(RecvTimeoutError::Timeout) => {
                Err(ReadError::new(format!("reading it took longer than {seconds} s")))
            }
        }
    }

    fn end(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            // It may have died already.
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }

    fn clear_scratch(&self) {
        let Ok(entries) = std::fs::read_dir(&self.scratch) else { return };
        for entry in entries.flatten() {
            // What stays is overwritten by the next file.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    fn start(mut command: Command) -> Result<Self, ReadError> {
        let failed = |error: std::io::Error| {
            ReadError::new(format!("start a worker that reads files: {error}"))
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let jobs = child.stdin.take().expect("stdin was asked for");
        let stdout = child.stdout.take().expect("stdout was asked for");
        let (send, answers) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = stdout.by_ref().take(LONGEST_ANSWER).read_until(b'\n', &mut line);
                let is_end = matches!(read, Ok(0) | Err(_));
                if send.send(read.map(|_| line)).is_err() || is_end {
                    return;
                }
            }
        });
        Ok(Self { child, jobs, answers })
    }

    fn cause_of_death(&mut self, bounds: &Bounds) -> ReadError {
        let status = self.child.wait();
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let memory = bounds.memory_mb;
        ReadError::new(format!(
            "reading it broke the worker ({how}), most likely because it needs more than {memory} MB"
        ))
    }
}
