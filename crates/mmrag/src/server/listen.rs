//! The socket, and an end in good order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::net::TcpListener;

use super::access::Guard;
use super::state::{App, Shared};

/// Requests that are under way when the server is stopped may take so long to end.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    /// The host's address.
    pub(crate) host: IpAddr,
    /// The port; 0 takes a free one.
    pub(crate) port: u16,
}

/// Serves until it is told to stop, then lets the requests under way end.
///
/// # Errors
///
/// When the address is open to others and there are no keys, or cannot be listened on.
pub(crate) fn serve(
    app: App,
    worker: JoinHandle<()>,
    address: Address,
    started: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    check(&app.guard, address)?;
    let app: Shared = Arc::new(app);
    let runtime = tokio::runtime::Runtime::new().context("failed to start the server")?;
    runtime.block_on(async {
        let listener = TcpListener::bind((address.host, address.port))
            .await
            .with_context(|| format!("failed to listen on {}:{}", address.host, address.port))?;
        let local = listener.local_addr().context("failed to find the address")?;
        started(local)?;
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let mut told = stopping.clone();
        let serving = axum::serve(listener, super::router(&app))
            .with_graceful_shutdown(async move { _ = told.wait_for(|stop| *stop).await });
        let mut serving = tokio::spawn(async move { serving.await });
        tokio::select! {
            ended = &mut serving => return ended.context("the server ended")?.context("failed to serve"),
            () = asked_to_stop() => {}
        }
        tracing::info!("stopping");
        let _ = stop.send(true);
        if let Ok(ended) = tokio::time::timeout(LAST_REQUESTS, serving).await {
            return ended.context("the server ended")?.context("failed to serve");
        }
        tracing::warn!("requests were cut off: they did not end in time");
        Ok(())
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    // The last holder of the way to the worker: its thread ends once nothing waits.
    drop(app);
    let _ = worker.join();
    Ok(())
}

fn check(guard: &Guard, address: Address) -> anyhow::Result<()> {
    let is_guarded = matches!(guard, Guard::Keys(_));
    ensure!(
        is_guarded || address.host.is_loopback(),
        "{} can be reached by others: give --api-keys FILE (`mmrag serve key new` makes a key), or \
         listen on 127.0.0.1",
        address.host
    );
    Ok(())
}

#[cfg(unix)]
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return interrupted().await;
    };
    tokio::select! {
        () = interrupted() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn asked_to_stop() {
    interrupted().await;
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::keys::Keys;

    #[test]
    fn other_addresses_need_keys() {
        let at = |host: &str| Address { host: host.parse().unwrap(), port: 0 };
        assert!(check(&Guard::Loopback, at("127.0.0.1")).is_ok());
        assert!(check(&Guard::Loopback, at("::1")).is_ok());
        let error = check(&Guard::Loopback, at("0.0.0.0")).unwrap_err();
        assert!(error.to_string().contains("--api-keys"), "{error}");
        assert!(check(&Guard::Keys(Keys::default()), at("0.0.0.0")).is_ok());
    }
}
