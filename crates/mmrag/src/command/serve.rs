//! `mmrag serve`: questions over HTTP, and a page for people.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use mmrag_data::Pool;
use mmrag_rag::{Collection, LaneInfo};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::Ended;
use crate::answerer::AnswerArgs;
use crate::dataset::{self, DatasetName, SplitName};
use crate::embedding::{self, Loaded};
use crate::output;
use crate::server::{
    Address, App, Collections, DiskStore, Embedders, Feedback, Guard, History, Keys, Limits,
    MemoryStore, Metrics, Spans, Store, Turns, Worker, serve,
};

/// A document is kept from this probability up, if neither model nor user says.
const THRESHOLD: f64 = 0.5;

const EXAMPLES: &str = "Examples:
  mmrag serve --index notes
  mmrag serve --data atlas --split test
  mmrag serve key new --api-keys keys.jsonl --name ada
  mmrag serve --host 0.0.0.0 --api-keys keys.jsonl --data atlas
  curl http://127.0.0.1:7878/v1/ask -H 'Content-Type: application/json' \\
      -d '{\"question\": \"Which colour has the banner of Toma?\"}'";

/// Answers questions over HTTP, in OpenAI's, Cohere's and our own form, and on a page.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct ServeCommand {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    serving: Serving,
}

#[derive(Subcommand)]
enum Task {
    /// Keys for those who may ask
    #[command(subcommand)]
    Key(KeyTask),
}

#[derive(Subcommand)]
enum KeyTask {
    /// Make a key and print it; the file gets its hash alone
    New(NewKey),
}

#[derive(Args)]
struct NewKey {
    /// The file of keys
    #[arg(long, value_name = "FILE")]
    api_keys: PathBuf,
    /// Whose key it is
    #[arg(long, value_name = "NAME")]
    name: String,
    /// A collection that it opens, again for more; all if absent
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
}

#[derive(Args)]
struct Serving {
    /// A collection to answer from, as `mmrag index` makes it; made if it is not there. Called by
    /// its folder's name, or as NAME=PLACE says; again for more
    #[arg(long = "index", value_name = "PLACE")]
    indexes: Vec<String>,
    /// Make vectors of what documents say, in collections that have none, by this encoder: a
    /// folder, or ORG/NAME on the Hugging Face hub. A collection that has vectors keeps its encoder
    #[arg(long, value_name = "MODEL", requires = "indexes")]
    embedder: Option<PathBuf>,
    /// The same of what pictures show
    #[arg(long, value_name = "MODEL", requires = "indexes")]
    image_embedder: Option<PathBuf>,
    /// A data set whose documents are one collection, held in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The data set's format
    #[arg(long, value_enum, default_value = "multimodalqa")]
    dataset: DatasetName,
    /// The part of the data set
    #[arg(long, value_enum, default_value = "dev")]
    split: SplitName,
    /// The address to listen on; any but this machine's own needs --api-keys
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 7878)]
    port: u16,
    /// The file of keys of those who may ask
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// Where past questions and feedback are kept
    #[arg(long, value_name = "DIR", default_value = "mmrag-state")]
    state: PathBuf,
    /// A folder with training runs and reports for the page to open
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Refuse larger bodies, in MiB
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_body: usize,
    /// End a request after so many seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
    /// Let so many requests wait; more are told to come back
    #[arg(long, value_name = "N", default_value_t = 128)]
    queue: usize,
    /// Answer so many waiting requests together
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Send spans to this OpenTelemetry collector, by OTLP over HTTP, as http://localhost:4318; if
    /// absent, to the one that OTEL_EXPORTER_OTLP_ENDPOINT names, and to none if it names none
    #[arg(long, value_name = "URL")]
    otel: Option<String>,
    /// The form of the log on stderr; what it says is set by RUST_LOG
    #[arg(long, value_enum, default_value = "text")]
    log: LogForm,
    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogForm {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl ServeCommand {
    /// Serves until it is stopped, or makes a key.
    ///
    /// # Errors
    ///
    /// When something cannot be read, or the address cannot be listened on.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        match &self.task {
            Some(Task::Key(KeyTask::New(key))) => key.make()?,
            None => self.serving.run()?,
        }
        Ok(Ended::Done)
    }
}

impl NewKey {
    fn make(&self) -> anyhow::Result<()> {
        let open = (!self.collections.is_empty()).then(|| self.collections.clone());
        let secret = Keys::add(&self.api_keys, &self.name, open)?;
        output::line(&secret)?;
        eprintln!(
            "this is the only time the key is shown; {} has its hash",
            self.api_keys.display()
        );
        Ok(())
    }
}

impl Serving {
    fn run(&self) -> anyhow::Result<()> {
        let spans = Spans::start(self.otel.as_deref())?;
        log(self.log, spans.as_ref());
        let limits = self.limits()?;
        let guard = match &self.api_keys {
            Some(path) => Guard::Keys(Keys::read(path)?),
            None => Guard::Loopback,
        };
        let collections = self.collections()?;
        let metrics = Arc::new(Metrics::new());
        let mut arguments = self.answer.clone();
        if arguments.filter_adapter.is_none() {
            // Without a filter nothing could be said of what is not shown.
            arguments.threshold = arguments.threshold.or(Some(THRESHOLD));
        }
        let engine = arguments.engine()?;
        let (worker, thread) = Worker::start(engine, arguments, limits, Arc::clone(&metrics))?;
        let app = App {
            worker,
            collections,
            guard,
            limits,
            metrics,
            history: History::open(Some(&self.state))?,
            feedback: Feedback::open(Some(self.state.clone()))?,
            turns: Turns::new(self.queue),
            reading: Turns::new(self.queue),
            runs: self.runs.clone(),
        };
        let served = serve(app, thread, Address { host: self.host, port: self.port }, greet);
        if let Some(spans) = spans {
            spans.end();
        }
        served
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        if self.queue == 0 || self.batch == 0 || self.timeout == 0 || self.max_body == 0 {
            bail!("--queue, --batch, --timeout and --max-body have to be above 0");
        }
        Ok(Limits {
            body_bytes: self.max_body << 20,
            time: Duration::from_secs(self.timeout),
            waiting: self.queue,
            together: self.batch,
            ..Limits::default()
        })
    }

    fn collections(&self) -> anyhow::Result<Collections> {
        let named = embedding::named(self.embedder.as_deref(), self.image_embedder.as_deref())?;
        let named: Vec<Arc<Loaded>> = named.into_iter().map(Arc::new).collect();
        let embedders = Arc::new(Embedders::new(named.clone()));
        let mut stores: Vec<(String, Arc<dyn Store>)> = Vec::new();
        for index in &self.indexes {
            let (name, place) = named_place(index)?;
            ensure!(
                stores.iter().all(|(other, _)| *other != name),
                "two indexes are called {name}"
            );
            let collection =
                Collection::open_or_create(&place).context("failed to open the index")?;
            bring_up(&collection, &named)?;
            let store = DiskStore::new(collection, Arc::clone(&embedders));
            tell_vectors(&name, &store)?;
            stores.push((name, Arc::new(store)));
        }
        if let Some(data) = &self.data {
            let documents =
                dataset::load(self.dataset, data, self.split, Pool::Whole, false)?.documents;
            let name = data.file_name().map_or("data".into(), |name| name.to_string_lossy());
            let store = MemoryStore::new(documents).context("failed to index the documents")?;
            stores.push((name.into_owned(), Arc::new(store)));
        }
        if stores.is_empty() {
            let store = MemoryStore::new(Vec::new()).context("failed to make a collection")?;
            stores.push(("scratch".to_owned(), Arc::new(store)));
        }
        Ok(Collections::new(stores))
    }
}

/// Embeds what a collection holds, where it has no vectors yet.
fn bring_up(collection: &Collection, named: &[Arc<Loaded>]) -> anyhow::Result<()> {
    let lanes = collection.snapshot().context("failed to read the index")?.lanes();
    for loaded in named {
        let LaneInfo { lane, version, .. } = loaded.info();
        match lanes.iter().find(|info| info.lane == *lane) {
            Some(info) if info.version != *version => bail!(
                "{} was embedded by {}: leave the embedder out, or make its vectors anew with \
                 `mmrag index --embedder` (or --image-embedder)",
                collection.place().display(),
                info.source
            ),
            Some(_) => {}
            None => {
                loaded.embed_missing(collection, || false)?;
            }
        }
    }
    Ok(())
}

/// Says how a collection is searched. Its embedders are loaded here, not by the first question.
fn tell_vectors(name: &str, store: &DiskStore) -> anyhow::Result<()> {
    let loaded = store.embedders().context("failed to read the index")?;
    let sources: Vec<&str> = loaded.iter().map(|loaded| &*loaded.info().source).collect();
    if sources.is_empty() {
        tracing::info!(collection = name, "searched by words (BM25): it has no embedder");
    } else {
        let embedders = sources.join(", ");
        tracing::info!(collection = name, embedders, "searched by words (BM25) and vectors");
    }
    Ok(())
}

/// The name and the folder of `NAME=PLACE`, or of a folder alone.
fn named_place(index: &str) -> anyhow::Result<(String, PathBuf)> {
    if let Some((name, place)) = index.split_once('=').filter(|(name, _)| !name.contains('/')) {
        ensure!(!name.is_empty(), "failed to read --index {index}: it has no name before =");
        return Ok((name.to_owned(), place.into()));
    }
    let place = std::path::absolute(index)?;
    let name = place
        .file_name()
        .with_context(|| format!("failed to name the collection {index}: say NAME={index}"))?;
    Ok((name.to_string_lossy().into_owned(), place))
}

/// Tells where the server is.
fn greet(at: SocketAddr) -> anyhow::Result<()> {
    output::line(&format!("http://{at}"))?;
    eprintln!("the page: http://{at}/   OpenAI clients: base_url http://{at}/v1, model mmrag");
    Ok(())
}

fn log(form: LogForm, spans: Option<&Spans>) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,mmrag=info"));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = match form {
        LogForm::Text => log.boxed(),
        LogForm::Json => log.json().flatten_event(true).boxed(),
    };
    let told = tracing_subscriber::registry().with(log.with_filter(filter));
    // A second start in one process would be a bug of ours; the first log then stays.
    let _ = told.with(spans.map(Spans::layer)).try_init();
}
