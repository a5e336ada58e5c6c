//! A town with documents, engines that know its mayor, and a way to ask.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use mmrag_core::{
    Choose, Completion, Content, Document, DocumentId, EngineError, Generate, ImageSource, Prompt,
    Sampling, Table, Tell,
};
use mmrag_rag::fakes::{ScriptedChoose, ScriptedGenerate, prompt_text};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::answerer::{AnswerArgs, Engine};
use crate::server::{
    App, Collections, Feedback, Guard, History, Limits, MemoryStore, Metrics, Shared, Store, Turns,
    Worker, router,
};

pub(super) const MAYOR: &str = "Who is the mayor of Olm?";

/// A grey picture of two pixels.
pub(super) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(width, height)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .expect("a small picture is written");
    bytes.into_inner()
}

pub(super) fn data_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("data:image/png;base64,{encoded}")
}

pub(super) fn text(id: &str, title: &str, body: &str) -> Arc<Document> {
    document(id, title, Content::Text(body.into()))
}

fn document(id: &str, title: &str, content: Content) -> Arc<Document> {
    Arc::new(Document { id: DocumentId::new(id), title: title.into(), content })
}

pub(super) fn documents() -> Vec<Arc<Document>> {
    let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
    let table = Table {
        name: String::new(),
        header: cells(["Town", "Mayor"]),
        rows: vec![cells(["Olm", "Ada Voss"]), cells(["Rin", "Bo Ek"])],
    };
    vec![
        text("t-olm", "Olm", "Olm is a harbour town. Its mayor Ada Voss took office in 1904."),
        document("b-towns", "Towns with Olm", Content::Table(table)),
        text("t-rin", "Rin", "Rin is a hill town near Olm, known for cheese."),
        text("t-sea", "Sea", "The sea at Olm is deep <script>alert(1)</script>."),
        document("i/flag", "Flag of Olm", Content::Image(ImageSource::Bytes(png(2, 2).into()))),
        text("t-far", "Far", "Nothing in common with it."),
    ]
}

/// Says that what names Ada Voss helps, and that she is the mayor.
struct Knowing {
    chooses: ScriptedChoose,
    writes: ScriptedGenerate,
}

impl Generate for Knowing {
    fn generate(&self, p: &[Prompt], s: &Sampling) -> Result<Vec<Vec<Completion>>, EngineError> {
        self.writes.generate(p, s)
    }

    fn generate_telling(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let written = self.generate(prompts, sampling)?;
        for (index, completions) in written.iter().enumerate() {
            let text = &completions[0].text;
            for (end, _) in text.char_indices() {
                tell(index, &text[..end]);
            }
        }
        Ok(written)
    }

    fn count_tokens(&self, prompt: &Prompt) -> Result<usize, EngineError> {
        self.writes.count_tokens(prompt)
    }
}

impl Choose for Knowing {
    fn choose(&self, p: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError> {
        self.chooses.choose(p, choices)
    }
}

fn shown(prompt: &Prompt) -> String {
    let text = prompt_text(prompt);
    // Replies alone are counted too, without a question.
    text.rsplit_once("Question:").map_or(String::new(), |(_, shown)| shown.to_owned())
}

fn reply(prompt: &Prompt) -> String {
    let shown = shown(prompt);
    assert!(!shown.contains("panic!"), "the test wants it");
    let labels: Vec<usize> =
        (1..=20).take_while(|n| shown.contains(&format!("\n[{n}] "))).collect();
    let order: Vec<String> = labels.iter().map(ToString::to_string).collect();
    let line = |word: &str| {
        labels.iter().find(|n| {
            let after = shown.split_once(&format!("\n[{n}] ")).expect("it is shown").1;
            after.split("\n[").next().is_some_and(|own| own.contains(word))
        })
    };
    let order = order.join(",");
    match line("Voss") {
        _ if shown.contains("unreadable") => "<answer>cheese".to_owned(),
        Some(n) => format!(
            "<think>[{n}] says that the mayor is Ada Voss. The rest says nothing.</think>\
             <rank>[{order}]</rank><answer>Ada Voss [{n}]</answer>"
        ),
        None => format!("<think>Nobody says.</think><rank>[{order}]</rank><answer>none</answer>"),
    }
}

pub(super) fn engine() -> Engine {
    let chooses = ScriptedChoose::yes(|prompt| {
        let shown = shown(prompt);
        let document = shown.split_once("Document:").map_or("", |(_, document)| document);
        if document.contains("Voss") { 0.9 } else { 0.1 }
    });
    let engine = Knowing { chooses, writes: ScriptedGenerate::new(reply) };
    Engine::Other { name: "knowing".into(), engine: Box::new(engine) }
}

/// How a server of a test is set up.
pub(super) struct Setting {
    pub(super) guard: Guard,
    pub(super) limits: Limits,
    pub(super) engine: Engine,
    pub(super) arguments: AnswerArgs,
    pub(super) state: Option<std::path::PathBuf>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            guard: Guard::Loopback,
            limits: Limits { body_bytes: 1 << 20, ..Limits::default() },
            engine: engine(),
            arguments: AnswerArgs { threshold: Some(0.5), ..AnswerArgs::default() },
            state: None,
        }
    }
}

pub(super) fn app(setting: Setting) -> Shared {
    let metrics = Arc::new(Metrics::new());
    let limits = setting.limits;
    let (worker, _) =
        Worker::start(setting.engine, setting.arguments, limits, Arc::clone(&metrics)).unwrap();
    let store = |documents| -> Arc<dyn Store> { Arc::new(MemoryStore::new(documents).unwrap()) };
    let secret = vec![text("t-secret", "Secret", "The mayor of Olm is secretly Bo Ek.")];
    Arc::new(App {
        worker,
        collections: Collections::new(vec![
            ("towns".into(), store(documents())),
            ("secrets".into(), store(secret)),
        ]),
        guard: setting.guard,
        limits,
        metrics,
        history: History::open(setting.state.as_deref()).unwrap(),
        feedback: Feedback::open(setting.state).unwrap(),
        turns: Turns::new(limits.waiting),
        reading: Turns::new(limits.waiting),
        runs: None,
    })
}

/// What came back.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) head: Response<()>,
    pub(super) body: Vec<u8>,
}

impl Answered {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The JSON of a request that went well.
    pub(super) fn good(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()
    }

    /// The message of a request that did not.
    pub(super) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json()["error"]["message"].as_str().expect("errors have OpenAI's form").to_owned()
    }

    /// The events of a stream: names (empty if there is none) and data.
    pub(super) fn events(&self) -> Vec<(String, String)> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let field = |event: &str, name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        self.text()
            .split("\n\n")
            .filter(|event| event.contains("data:"))
            .map(|event| (field(event, "event:"), field(event, "data:")))
            .collect()
    }
}

pub(super) async fn send(app: &Shared, request: Request<Body>) -> Answered {
    let response = router(app).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answered { status, head: Response::from_parts(parts, ()), body }
}

pub(super) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "localhost:7878")
}

pub(super) async fn post(app: &Shared, path: &str, body: &Value) -> Answered {
    let request = request("POST", path).header(header::CONTENT_TYPE, "application/json");
    send(app, request.body(Body::from(body.to_string())).unwrap()).await
}

pub(super) async fn get(app: &Shared, path: &str) -> Answered {
    send(app, request("GET", path).body(Body::empty()).unwrap()).await
}

pub(super) async fn delete(app: &Shared, path: &str) -> Answered {
    send(app, request("DELETE", path).body(Body::empty()).unwrap()).await
}
