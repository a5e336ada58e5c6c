//! Streams of events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

/// Events that wait for a slow reader; then the writer waits.
const WAITING: usize = 64;

/// Where events are written.
#[derive(Clone)]
pub(crate) struct Events {
    sender: Sender<Result<Event, Infallible>>,
}

impl Events {
    /// A stream and its response.
    pub(crate) fn new() -> (Self, Response) {
        let (sender, receiver): (_, Receiver<Result<Event, Infallible>>) = channel(WAITING);
        let stream = Sse::new(ReceiverStream::new(receiver));
        // A comment now and then keeps proxies from closing; every client skips it.
        let alive = KeepAlive::new().interval(Duration::from_secs(10)).text("ping");
        (Self { sender }, stream.keep_alive(alive).into_response())
    }

    /// Writes an event of a name; whether anybody still reads.
    pub(crate) async fn named<T: Serialize>(&self, name: &str, data: &T) -> bool {
        self.send(Event::default().event(name), data).await
    }

    /// Writes an event without a name; whether anybody still reads.
    pub(crate) async fn plain<T: Serialize>(&self, data: &T) -> bool {
        self.send(Event::default(), data).await
    }

    async fn send<T: Serialize>(&self, event: Event, data: &T) -> bool {
        match serde_json::to_string(data) {
            Ok(text) => self.sender.send(Ok(event.data(text))).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Writes the end that OpenAI's clients wait for.
    pub(crate) async fn done(&self) {
        let _ = self.sender.send(Ok(Event::default().data("[DONE]"))).await;
    }
}
