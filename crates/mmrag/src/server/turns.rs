//! Whose turn it is to use all processors: one at a time, the rest waits, and of more than may wait
//! the next is told to come back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// When the next is told to come back, where nothing is known of those that wait.
const COME_BACK: Duration = Duration::from_secs(2);

/// A queue in front of work that fills the processors.
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// A place in the queue; given up when it is dropped.
pub(crate) struct Place {
    turn: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    /// At most `waiting` have a place.
    pub(crate) fn new(waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(waiting)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// When all are taken.
    pub(crate) fn place(&self) -> Result<Place, ApiError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| ApiError::busy(COME_BACK))?;
        Ok(Place { turn: Arc::clone(&self.turn), _place: place })
    }
}

impl Place {
    /// Waits for the turn, which lasts as long as what is given is kept.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        turn.expect("nobody closes the queue")
    }
}
