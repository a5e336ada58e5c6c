//! Reading files in workers, several at once, with the results in the files' order.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use mmrag_rag::{Fingerprint, SourceFile};
use mmrag_read::worker::{self, Job};
use mmrag_read::{Bounds, Options, Pool, Reading, Root};
use sha2::{Digest as _, Sha256};

use super::Ingest;
use super::files::Found;

use crate::hexadecimal::hexadecimal;

/// The hidden command that a worker's process runs.
pub(crate) const WORKER: &str = "read-files";
/// So many files are read ahead of the slowest.
const AHEAD: usize = 64;
/// A file that was changed so short a time ago may change again without a trace in its time.
pub(super) const RECENT_NS: u64 = 2_000_000_000;

/// A file to look at.
pub(super) struct Task {
    pub(super) file: Found,
    pub(super) before: Option<SourceFile>,
    pub(super) options: Options,
    pub(super) root: Root,
}

/// What became of it.
pub(super) enum Outcome {
    /// It is as it was.
    Unchanged,
    /// It looks another way, and holds the same.
    Touched(Fingerprint),
    /// It was read.
    Read(Fingerprint, Reading),
    /// It cannot be read.
    Failed(Fingerprint, String),
}

/// What a worker's process does.
///
/// # Errors
///
/// When its bounds cannot be set, or nobody listens.
pub(crate) fn serve_worker(memory_mb: u64) -> anyhow::Result<()> {
    worker::serve(memory_mb).context("failed to read files for another process")
}

/// Looks at all files, and gives each with what became of it to `take`, in their order.
///
/// # Errors
///
/// When no worker can be started, or `take` fails.
pub(super) fn read_each(
    ingest: &Ingest,
    tasks: &[Task],
    mut take: impl FnMut(&Task, Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("failed to make a folder for pictures of pages")?;
    let queue = Queue { state: Mutex::default(), moved: Condvar::new() };
    let (send, outcomes) = channel();
    std::thread::scope(|scope| {
        for n in 0..ingest.at_once.clamp(1, tasks.len()) {
            let folder = scratch.path().join(n.to_string());
            std::fs::create_dir(&folder).context("failed to make a folder")?;
            let pool = Pool::new(worker_command(ingest.bounds)?, ingest.bounds, folder);
            let (queue, send) = (&queue, send.clone());
            scope.spawn(move || work(ingest, tasks, queue, pool, &send));
        }
        drop(send);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut result = Ok(());
        for (i, outcome) in outcomes {
            waiting.insert(i, outcome);
            while let Some(outcome) = waiting.remove(&next) {
                if result.is_ok() {
                    result = take(&tasks[next], outcome);
                }
                next += 1;
            }
            queue.taken(next, result.is_err());
        }
        result
    })
}

/// What starts a worker.
pub(super) fn worker_command(bounds: Bounds) -> anyhow::Result<impl Fn() -> Command + Send> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let memory = bounds.memory_mb.to_string();
    Ok(move || {
        let mut command = Command::new(&program);
        command.args([WORKER, "--memory-mb", &memory]);
        command
    })
}

/// Which file is next, and how far the results have been taken.
struct Queue {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    next: usize,
    taken: usize,
    ended: bool,
}

impl Queue {
    fn next(&self, n: usize) -> Option<usize> {
        let state = self.state.lock().expect("no holder of the lock panics");
        let too_far = |state: &mut State| !state.ended && state.next >= state.taken + AHEAD;
        let mut state =
            self.moved.wait_while(state, too_far).expect("no holder of the lock panics");
        if state.ended || state.next >= n {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn taken(&self, taken: usize, ended: bool) {
        let mut state = self.state.lock().expect("no holder of the lock panics");
        state.taken = taken;
        state.ended |= ended;
        self.moved.notify_all();
    }
}

fn work(
    ingest: &Ingest,
    tasks: &[Task],
    queue: &Queue,
    mut pool: Pool,
    send: &Sender<(usize, Outcome)>,
) {
    while let Some(i) = queue.next(tasks.len()) {
        if ingest.stop.load(Ordering::SeqCst) {
            queue.taken(0, true);
            return;
        }
        if send.send((i, look(&tasks[i], &mut pool))).is_err() {
            return;
        }
    }
}

fn look(task: &Task, pool: &mut Pool) -> Outcome {
    let reader = reader_name(task);
    let file = &task.file;
    let same_way = task.before.as_ref().filter(|before| before.fingerprint.reader == reader);
    if let Some(before) = same_way
        && before.fingerprint.modified_ns == file.modified_ns
        && before.fingerprint.bytes == file.bytes
    {
        return Outcome::Unchanged;
    }
    let mut fingerprint = Fingerprint {
        bytes: file.bytes,
        modified_ns: settled(file.modified_ns),
        hash: String::new(),
        reader,
    };
    match hash(&file.path) {
        Ok(hash) => fingerprint.hash = hash,
        Err(error) => return Outcome::Failed(fingerprint, error.to_string()),
    }
    if same_way.is_some_and(|before| before.fingerprint.hash == fingerprint.hash) {
        return Outcome::Touched(fingerprint);
    }
    let job = Job {
        path: file.path.clone(),
        kind: file.kind,
        root: task.root.clone(),
        options: task.options.clone(),
        scratch: pool.scratch(),
    };
    match pool.read(&job) {
        Ok(reading) => {
            // What it names is part of how it was read.
            let uses: Vec<String> = reading.uses.iter().map(|u| u.display().to_string()).collect();
            fingerprint.reader = format!("{}{}", base_name(&task.options), stamp(&uses));
            Outcome::Read(fingerprint, reading)
        }
        Err(error) => Outcome::Failed(fingerprint, error.to_string()),
    }
}

/// The time of a change, or none where another could follow in the same instant.
fn settled(modified_ns: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    if now.saturating_sub(modified_ns) > RECENT_NS { modified_ns } else { 0 }
}

/// How a file would be read now: by which readers, and with what of the files that it names.
fn reader_name(task: &Task) -> String {
    let uses = task.before.as_ref().map_or(&[][..], |before| &before.uses);
    format!("{}{}", base_name(&task.options), stamp(uses))
}

fn base_name(options: &Options) -> String {
    let options = serde_json::to_string(options).unwrap_or_default();
    let digest = Sha256::digest(options.as_bytes());
    format!(
        "{}-{:02x}{:02x}{:02x}{:02x}",
        mmrag_read::VERSION,
        digest[0],
        digest[1],
        digest[2],
        digest[3]
    )
}

/// Sizes and times of the files that a file names.
fn stamp(uses: &[String]) -> String {
    if uses.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for name in uses {
        hash.update(name.as_bytes());
        if let Ok(about) = std::fs::metadata(name) {
            hash.update(about.len().to_le_bytes());
            let modified = about.modified().ok().and_then(|m| m.duration_since(UNIX_EPOCH).ok());
            hash.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
        }
    }
    format!("-{}", hexadecimal(&hash.finalize()[..8]))
}

fn hash(path: &std::path::Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
