//! `mmrag serve` as a user starts, stops and kills it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod pages;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

use pages::{page_of_text, pdf, stream};

/// A server on a free port; killed when the test ends.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str], folder: &Path) -> Self {
        Self::start_logging("warn", arguments, folder)
    }

    /// Nobody reads the log before the end, so what is logged has to be little.
    fn start_logging(log: &str, arguments: &[&str], folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mmrag"))
            .args(["serve", "--port", "0", "--log", "json"])
            .args(arguments)
            .current_dir(folder)
            .env("RUST_LOG", log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut address = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut address).expect("the address is text");
        let address = address.trim().to_owned();
        if address.is_empty() {
            let mut told = String::new();
            child.stderr.take().expect("it is piped").read_to_string(&mut told).unwrap();
            panic!("the server did not start: {told}");
        }
        Self { child, address }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let sent = ureq::post(format!("{}{path}", self.address)).send_json(body);
        let mut response = sent.map_err(|error| error.to_string())?;
        response.body_mut().read_json().map_err(|error| error.to_string())
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let mut response =
            ureq::get(format!("{}{path}", self.address)).call().map_err(|e| e.to_string())?;
        response.body_mut().read_json().map_err(|e| e.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mmrag(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmrag"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the command starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

#[cfg(unix)]
#[test]
fn a_server_answers_and_ends_in_good_order_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_logging("mmrag=info", &[], folder.path());
    let documents = json!(["Toma lies in Hadedu.", "Rin was founded in 1904."]);
    let asked = json!({ "question": "Where does Toma lie?", "documents": documents });
    let found = server.post("/v1/ask", &asked).unwrap();
    assert_eq!(found["candidates"].as_array().unwrap().len(), 2);
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(server.child.wait().unwrap().success(), "{log}");
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let request = lines.iter().find(|line| line["message"] == "request").expect("it is logged");
    assert_eq!((&request["path"], &request["status"]), (&json!("/v1/ask"), &json!(200)));
    assert!(folder.path().join("mmrag-state/asked.jsonl").is_file());
}

/// An OpenTelemetry collector that takes what it is sent until the test ends.
struct Collector {
    address: String,
    taken: Arc<Mutex<Vec<Taken>>>,
}

/// A request's first line and its body.
type Taken = (String, Vec<u8>);

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(stream.unwrap(), &kept));
            }
        });
        Self { address, taken }
    }

    /// All spans that came, with the name of the service that each is of.
    fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for (line, body) in self.taken.lock().unwrap().iter() {
            assert_eq!(line, "POST /v1/traces HTTP/1.1");
            let sent = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            for of_service in sent.resource_spans {
                let attributes = of_service.resource.unwrap().attributes;
                let name = attributes.iter().find(|a| a.key == "service.name").unwrap();
                let name = format!("{:?}", name.value);
                for scope in of_service.scope_spans {
                    spans.extend(scope.spans.into_iter().map(|span| (name.clone(), span)));
                }
            }
        }
        spans
    }
}

/// Takes requests of one connection until it ends.
fn take(stream: TcpStream, kept: &Mutex<Vec<Taken>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let length = lines.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
        });
        let mut body = vec![0; length.expect("the body's length is told")];
        reader.read_exact(&mut body).unwrap();
        kept.lock().unwrap().push((lines.swap_remove(0), body));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn spans_of_a_request_go_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let mut server = Server::start(&["--otel", &collector.address], folder.path());
    let asked =
        json!({ "question": "Where does Toma lie?", "documents": ["Toma lies in Hadedu."] });
    let trace = "0af7651916cd43dd8448eb211c80319c";
    ureq::post(format!("{}/v1/ask", server.address))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .send_json(&asked)
        .unwrap();
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(server.child.wait().unwrap().success(), "{log}");

    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    };
    let trace_id = bytes(trace);
    let spans = collector.spans();
    let named = |name: &str| {
        let found = spans.iter().find(|(_, span)| span.name == name);
        &found.unwrap_or_else(|| panic!("no span is called {name}: {spans:?}")).1
    };
    let request = named("POST /v1/ask");
    assert_eq!(request.trace_id, trace_id);
    assert_eq!(request.parent_span_id, bytes("b7ad6b7169203331"));
    for stage in ["retrieve", "filter", "rank"] {
        let span = named(stage);
        assert_eq!(span.parent_span_id, request.span_id, "{stage}");
        assert_eq!(span.trace_id, trace_id, "{stage}");
        assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{stage}");
    }
    assert!(spans.iter().all(|(service, _)| service.contains("\"mmrag\"")), "{spans:?}");
    // What was asked and answered is nobody else's business.
    assert!(!format!("{spans:?}").contains("Toma"), "{spans:?}");
}

#[test]
fn a_collector_that_is_no_address_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = mmrag(&["serve", "--port", "0", "--otel", "localhost:4318"], folder.path());
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("begins with http://"), "{}", stderr(&refused));
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--index", "notes"];
    let mut server = Server::start(&arguments, folder.path());
    let mut acknowledged = 0;
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let address = server.address.clone();
            let is_added = |n: usize| {
                let document = json!({ "id": n.to_string(), "text": format!("Number {n}.") });
                let body = json!({ "documents": [document] });
                ureq::post(format!("{address}/v1/documents")).send_json(body).is_ok()
            };
            let mut n_added = 0;
            while is_added(n_added) {
                n_added += 1;
            }
            n_added
        });
        while !folder.path().join("notes/collection.json").is_file() {
            std::thread::yield_now();
        }
        let listed = |path: &str| {
            ureq::get(format!("{}{path}", server.address))
                .call()
                .ok()?
                .body_mut()
                .read_to_string()
                .ok()
        };
        // In the middle of adding, wherever that is. Who adds the fifth has been told of four.
        while !listed("/v1/documents").is_some_and(|text| text.contains("\"4\"")) {
            std::thread::yield_now();
        }
        let id = server.child.id().to_string();
        assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        acknowledged = adding.join().unwrap();
    });
    server.child.wait().unwrap();
    assert!(acknowledged >= 4, "{acknowledged}");
    let next = Server::start(&arguments, folder.path());
    for n in 0..acknowledged {
        let found = next.get(&format!("/v1/documents/{n}")).unwrap();
        assert_eq!(found["text"], format!("Number {n}."));
    }
}

/// Adds documents and deletes every second one again until the server is gone. Gives what was
/// acknowledged, whether each is there, and the last one, of which that is not known.
fn add_and_delete(
    address: &str,
    name: &str,
    done: &AtomicUsize,
) -> (BTreeMap<String, bool>, String) {
    let mut acknowledged = BTreeMap::new();
    for n in 0.. {
        let id = format!("{name}-{n}");
        let document = json!({ "id": id, "title": id, "text": format!("Number {n} of {name}.") });
        let body = json!({ "documents": [document] });
        if ureq::post(format!("{address}/v1/documents")).send_json(body).is_err() {
            return (acknowledged, id);
        }
        acknowledged.insert(id, true);
        if n % 2 == 1 {
            let id = format!("{name}-{}", n - 1);
            if ureq::delete(format!("{address}/v1/documents/{id}")).call().is_err() {
                return (acknowledged, id);
            }
            acknowledged.insert(id, false);
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    unreachable!("the server is killed")
}

#[test]
fn what_was_added_and_deleted_is_so_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bert_tiny");
    let arguments = ["--index", "notes", "--embedder", encoder.to_str().unwrap()];
    for kill in 0..3 {
        let mut server = Server::start(&arguments, folder.path());
        let done = AtomicUsize::new(0);
        let told = std::thread::scope(|scope| {
            let working = ["a", "b"].map(|name| {
                let (address, done) = (server.address.clone(), &done);
                scope.spawn(move || add_and_delete(&address, &format!("{name}{kill}"), done))
            });
            // In the middle of it, wherever that is.
            while done.load(Ordering::SeqCst) < 8 + kill {
                std::thread::yield_now();
            }
            let id = server.child.id().to_string();
            assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
            working.map(|working| working.join().unwrap())
        });
        server.child.wait().unwrap();
        let next = Server::start(&arguments, folder.path());
        let asked = json!({ "question": "Number 3?", "top_k": 100 });
        let found = next.post("/v1/ask", &asked).unwrap();
        let candidates = found["candidates"].as_array().unwrap();
        for (acknowledged, last) in &told {
            assert!(acknowledged.len() >= 2, "{acknowledged:?}");
            for (id, is_there) in acknowledged.iter().filter(|(id, _)| *id != last) {
                let got = next.get(&format!("/v1/documents/{id}"));
                assert_eq!(got.is_ok(), *is_there, "{id}");
                let candidate = candidates.iter().find(|found| found["document"] == **id);
                assert_eq!(candidate.is_some(), *is_there, "{id} is searched");
                let by_vector = |found: &Value| {
                    let ways = found["retrieval"].as_array().unwrap();
                    ways.iter().any(|way| way["source"] == "dense")
                };
                assert!(candidate.is_none_or(by_vector), "{id} has its vector");
            }
        }
    }
}

#[test]
fn other_addresses_need_keys_and_keys_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = mmrag(&["serve", "--host", "0.0.0.0", "--port", "0"], folder.path());
    assert!(!open.status.success());
    assert!(stderr(&open).contains("--api-keys"), "{}", stderr(&open));
    let new = ["serve", "key", "new", "--api-keys", "keys.jsonl", "--name", "ada"];
    let made = mmrag(&new, folder.path());
    assert!(made.status.success(), "{}", stderr(&made));
    let key = String::from_utf8(made.stdout).unwrap();
    let file = std::fs::read_to_string(folder.path().join("keys.jsonl")).unwrap();
    assert!(key.starts_with("mmrag-") && !file.contains(key.trim()));
    assert!(stderr(&mmrag(&new, folder.path())).contains("ada"));
    let server = Server::start(&["--api-keys", "keys.jsonl"], folder.path());
    assert!(server.get("/v1/models").unwrap_err().contains("401"));
    let mut models = ureq::get(format!("{}/v1/models", server.address))
        .header("authorization", format!("Bearer {}", key.trim()))
        .call()
        .unwrap();
    assert!(models.body_mut().read_to_string().unwrap().contains("mmrag"));
}

#[test]
fn a_remote_engine_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = mmrag(&["serve", "--policy", &address], folder.path());
    assert!(stderr(&refused).contains(&address), "{}", stderr(&refused));
}

/// Sends a file, and gives the status and what came back.
fn send_file(server: &Server, name: &str, more: &str, bytes: &[u8]) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut response = agent
        .post(format!("{}/v1/files?name={name}{more}", server.address))
        .header("content-type", "application/octet-stream")
        .send(bytes)
        .unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

#[test]
fn a_file_is_read_by_a_process_of_its_own_and_told_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--index", "notes", "--timeout", "20"], folder.path());
    let (status, told) = send_file(&server, "page.pdf", "", &page_of_text("Lighthouse keeper Bo"));
    assert_eq!(status, 200, "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let added: Vec<&str> =
        told["added"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(added.len(), 2, "a picture of the page, and its text: {told}");
    assert!(added.iter().all(|id| id.starts_with("page.pdf#")), "{told}");
    let asked = json!({ "question": "Who is the lighthouse keeper?" });
    let found = server.post("/v1/ask", &asked).unwrap();
    let origin = &found["candidates"][0]["origin"];
    assert_eq!((&origin["source"], &origin["page"]), (&json!("page.pdf"), &json!(1)));

    // Another file of the name takes its place, and its steps are told.
    let (_, told) = send_file(&server, "page.pdf", "&stream=true", &page_of_text("The sea"));
    let names: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["reading", "read", "done"], "{told}");
    let listed = server.get("/v1/documents").unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    assert!(server.get(&format!("/v1/documents/{}", added[0].replace('#', "%23"))).is_err());

    // What is hostile costs itself: the server goes on.
    let form =
        stream("/X Do", "/Type /XObject /Subtype /Form /Resources << /XObject << /X 2 0 R >> >>");
    let looping = pdf(&["<< /Type /Catalog /Pages 2 0 R >>", &form]);
    let cases: [(&str, &[u8], u16, &str); 5] = [
        ("loop.pdf", &looping, 400, "loop.pdf cannot be read"),
        ("torn.png", b"\x89PNG\r\n\x1a\n", 400, "torn.png cannot be read"),
        ("tool.exe", b"MZ", 400, "a kind that is not read"),
        ("..%2F..%2Fnotes.md", b"# Out", 400, "no folders"),
        ("", b"x", 400, "1 to 200 characters"),
    ];
    for (name, bytes, expected, word) in cases {
        let (status, told) = send_file(&server, name, "", bytes);
        assert!(status == expected && told.contains(word), "{name}: {status} {told}");
    }
    let (_, told) = send_file(&server, "torn.png", "&stream=true", b"\x89PNG\r\n\x1a\n");
    assert!(told.contains("event: error") && told.contains("torn.png cannot be read"), "{told}");
    let form = ureq::post(format!("{}/v1/files?name=a.md", server.address));
    let form = form.header("content-type", "text/plain").send("# A");
    assert!(form.unwrap_err().to_string().contains("415"), "another site's page cannot send it");
    assert_eq!(server.get("/v1/documents").unwrap()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_collection_keeps_its_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bert_tiny");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let mut bytes = std::fs::read(encoder.join(file)).unwrap();
        if file == "model.safetensors" {
            // One weight is another one.
            let last = bytes.len() - 4;
            bytes[last] ^= 1;
        }
        std::fs::write(other.join(file), bytes).unwrap();
    }
    let document = json!({ "documents": [{ "id": "sea", "text": "The sea is deep." }] });
    let first = ["--index", "notes", "--embedder", encoder.to_str().unwrap()];
    Server::start(&first, folder.path()).post("/v1/documents", &document).unwrap();
    let with = |embedder: &Path| {
        let arguments =
            ["serve", "--port", "0", "--index", "notes", "--embedder", embedder.to_str().unwrap()];
        mmrag(&arguments, folder.path())
    };
    let refused = with(&other);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("was embedded by"), "{}", stderr(&refused));
    assert!(stderr(&with(&folder.path().join("none"))).contains("no such folder"));
    // Who names none gets the one that it was embedded by.
    let next = Server::start(&["--index", "notes"], folder.path());
    let asked = json!({ "model": "mmrag", "input": "sea" });
    assert_eq!(next.post("/v1/embeddings", &asked).unwrap()["mmrag"]["of"], "text");
}
