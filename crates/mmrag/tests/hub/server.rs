//! A hub of one repository, and beside it the store of its large files, each on a port of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What the hub holds and how it behaves.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    /// The commits of branches and tags.
    pub(crate) branches: BTreeMap<String, String>,
    /// The files of commits.
    pub(crate) commits: BTreeMap<String, Files>,
    /// Who does not say this is refused.
    pub(crate) token: Option<String>,
    /// Files that lie in the store: the hub tells their SHA-256 and leads there.
    pub(crate) stored: Vec<String>,
    /// Of the file of this name, no answer has more bytes of its body.
    pub(crate) cut: Option<(String, usize)>,
    /// Where a cut answer is told instead of ended; it stays open until the hub is gone.
    pub(crate) hold: Option<Sender<()>>,
    /// Whole answers are given to requests for ranges.
    pub(crate) no_ranges: bool,
    /// What files are called in place of their ETag.
    pub(crate) etag: Option<String>,
}

/// What somebody asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The path, with the query.
    pub(crate) path: String,
    /// The headers, their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
}

/// The hub, running until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    hub: Mutex<Hub>,
    store: SocketAddr,
    asked: Mutex<Vec<Request>>,
    asked_of_store: Mutex<Vec<Request>>,
    open: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Server {
    /// Starts a hub.
    pub(crate) fn start(hub: Hub) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let (listener, store) = (listen(), listen());
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            hub: Mutex::new(hub),
            store: store.local_addr().unwrap(),
            asked: Mutex::default(),
            asked_of_store: Mutex::default(),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let serve = |listener: TcpListener, is_store: bool| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that goes away in the middle is none of our business.
                    let _ = shared.answer(stream.unwrap(), is_store);
                }
            })
        };
        let threads = vec![serve(listener, false), serve(store, true)];
        Self { address, shared, threads }
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it holds or how it behaves.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Hub) -> R) {
        change(&mut self.shared.hub.lock().unwrap());
    }

    /// What the hub was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// What the hub was asked about a file since the last time.
    pub(crate) fn asked_for(&self, file: &str) -> Vec<Request> {
        let asked = self.asked().into_iter();
        asked.filter(|request| request.path.ends_with(&format!("/{file}"))).collect()
    }

    /// Ends the answers that it holds.
    pub(crate) fn let_go(&self) {
        self.shared.open.lock().unwrap().clear();
    }

    /// What its store was asked since the last time.
    pub(crate) fn asked_of_store(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.asked_of_store.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.let_go();
        for address in [self.address, self.shared.store] {
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("the hub does not panic");
        }
    }
}

impl Shared {
    /// Reads one request, answers it and closes.
    fn answer(&self, mut stream: TcpStream, is_store: bool) -> std::io::Result<()> {
        let Some(request) = read(&stream)? else { return Ok(()) };
        let asked = if is_store { &self.asked_of_store } else { &self.asked };
        asked.lock().unwrap().push(request.clone());
        let hub = self.hub.lock().unwrap().clone();
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let said = request.headers.get("authorization");
        let is_known = hub.token.is_none() || said == hub.token.as_ref() || is_store;
        match parts[..] {
            _ if !is_known => refuse(&mut stream, "401 Unauthorized"),
            ["api", "models", "org", "name", "revision", revision] => {
                let revision = revision.replace("%2F", "/");
                let commit = hub.branches.get(&revision).unwrap_or(&revision);
                let Some(files) = hub.commits.get(commit) else {
                    return refuse(&mut stream, "404 Not Found");
                };
                let files: Vec<_> =
                    files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
                let text = serde_json::json!({ "sha": commit, "siblings": files }).to_string();
                write!(stream, "HTTP/1.1 200 OK\r\n{}\r\n{text}", length(text.len()))
            }
            ["org", "name", "resolve", commit, ref rest @ ..]
            | ["store", commit, ref rest @ ..] => {
                let name = &*rest.join("/");
                let Some(content) = hub.commits.get(commit).and_then(|files| files.get(name))
                else {
                    return refuse(&mut stream, "404 Not Found");
                };
                if !is_store && hub.stored.iter().any(|stored| stored == name) {
                    let (to, hash, size) = (self.store, sha256(content), content.len());
                    return write!(
                        stream,
                        "HTTP/1.1 302 Found\r\nLocation: http://{to}/store/{commit}/{name}\r\n\
                         X-Linked-ETag: \"{hash}\"\r\nX-Linked-Size: {size}\r\n\
                         X-Repo-Commit: {commit}\r\n{}\r\n",
                        length(0)
                    );
                }
                self.give(stream, &hub, &request, name, content)
            }
            _ => refuse(&mut stream, "404 Not Found"),
        }
    }

    fn give(
        &self,
        mut stream: TcpStream,
        hub: &Hub,
        request: &Request,
        name: &str,
        content: &[u8],
    ) -> std::io::Result<()> {
        let range = request.headers.get("range").filter(|_| !hub.no_ranges);
        let start: Option<usize> = range.map(|range| {
            let start = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            start.unwrap().0.parse().unwrap()
        });
        let size = content.len();
        if start.is_some_and(|start| start >= size) {
            return refuse(&mut stream, "416 Range Not Satisfiable");
        }
        let body = &content[start.unwrap_or(0)..];
        let etag = hub.etag.clone().unwrap_or_else(|| sha256(content)[..40].to_owned());
        let mut head = match start {
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
            Some(start) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}\r\n",
                size - 1
            ),
        };
        let _ = write!(head, "ETag: \"{etag}\"\r\n{}\r\n", length(body.len()));
        stream.write_all(head.as_bytes())?;
        let most = match &hub.cut {
            Some((cut, most)) if cut == name => *most,
            _ => body.len(),
        };
        stream.write_all(&body[..most.min(body.len())])?;
        if most < body.len()
            && let Some(told) = &hub.hold
        {
            self.open.lock().unwrap().push(stream);
            told.send(()).expect("somebody waits");
        }
        Ok(())
    }
}

/// The name that large files have.
pub(crate) fn sha256(content: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { path, headers }))
}

fn refuse(stream: &mut TcpStream, status: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nX-Error-Message: for a reason\r\n{}\r\n", length(0))
}

fn length(bytes: usize) -> String {
    format!("Content-Length: {bytes}\r\nConnection: close\r\n")
}
