//! Training runs and reports in a folder, for the page to open while they grow.
//!
//! A run is named by its path within the folder, and only names that a look through the folder finds
//! are opened: no other path can be.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::body::Json;
use super::documents::in_background;
use super::error::ApiError;
use super::state::Shared;

const METRICS: &str = "metrics.jsonl";
const REPORT: &str = "report.html";

/// Folders below the folder of runs that are looked through.
const DEPTH: usize = 4;

/// Runs that are listed at most.
const LISTED: usize = 1000;

/// Lines of metrics in one answer.
const LINES: usize = 5000;

/// Reports are whole pages with styles of their own, and without scripts.
const REPORT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox";

/// Which run, and from which line on.
#[derive(Deserialize)]
pub(crate) struct Which {
    id: String,
    #[serde(default)]
    from: usize,
}

struct Run {
    id: String,
    folder: PathBuf,
}

/// `GET /v1/runs`.
pub(crate) async fn list(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
) -> Result<Json<Value>, ApiError> {
    let Some(root) = open_root(&app, &access)? else {
        return Ok(Json(json!({ "object": "list", "data": [], "folder": null })));
    };
    let shown = root.display().to_string();
    let rows = in_background(move || {
        let row = |run: &Run| {
            json!({
                "id": run.id,
                "metrics": run.folder.join(METRICS).is_file(),
                "report": run.folder.join(REPORT).is_file(),
            })
        };
        Ok(runs(&root).iter().map(row).collect::<Vec<Value>>())
    })
    .await?;
    Ok(Json(json!({ "object": "list", "data": rows, "folder": shown })))
}

/// `GET /v1/runs/metrics`: lines from one on; a line that is still being written comes later.
pub(crate) async fn metrics(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let root = open_root(&app, &access)?;
    let (lines, next) = in_background(move || {
        let path = find(root, &which.id)?.join(METRICS);
        let file = std::fs::File::open(&path)
            .map_err(|_| ApiError::missing(format!("the run {} has no metrics", which.id)))?;
        Ok(lines_from(BufReader::new(file), which.from))
    })
    .await?;
    Ok(Json(json!({ "object": "list", "data": lines, "next": next })))
}

fn lines_from(mut file: impl std::io::BufRead, from: usize) -> (Vec<Value>, usize) {
    let (mut lines, mut number, mut line) = (Vec::new(), 0, String::new());
    while lines.len() < LINES {
        line.clear();
        match file.read_line(&mut line) {
            Ok(read) if read > 0 && line.ends_with('\n') => {}
            _ => break,
        }
        number += 1;
        if number > from
            && let Ok(value) = serde_json::from_str(&line)
        {
            lines.push(value);
        }
    }
    (lines, number)
}

/// `GET /v1/runs/report`: the report's page.
pub(crate) async fn report(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let root = open_root(&app, &access)?;
    let page = in_background(move || {
        std::fs::read(find(root, &which.id)?.join(REPORT))
            .map_err(|_| ApiError::missing(format!("the run {} has no report", which.id)))
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, REPORT_POLICY),
    ];
    Ok((headers, page).into_response())
}

/// Runs are of the whole server, so a key for some collections does not open them.
fn open_root(app: &Shared, access: &Access) -> Result<Option<PathBuf>, ApiError> {
    if access.opens_all() {
        return Ok(app.runs.clone());
    }
    Err(ApiError::forbidden("runs are open to keys for all collections alone"))
}

fn find(root: Option<PathBuf>, id: &str) -> Result<PathBuf, ApiError> {
    let found = root.into_iter().flat_map(|root| runs(&root)).find(|run| run.id == id);
    found.map(|run| run.folder).ok_or_else(|| ApiError::missing(format!("there is no run {id}")))
}

fn runs(root: &Path) -> Vec<Run> {
    let mut found = Vec::new();
    look_through(root, String::new(), DEPTH, &mut found);
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

fn look_through(folder: &Path, id: String, depth: usize, found: &mut Vec<Run>) {
    if found.len() >= LISTED {
        return;
    }
    let has = |name: &str| folder.join(name).is_file();
    let (is_run, entries) = (has(METRICS) || has(REPORT), std::fs::read_dir(folder));
    for entry in entries.into_iter().flatten().flatten().filter(|_| depth > 0) {
        // A link may lead anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(name) = entry.file_name().to_str()
        {
            let below = if id.is_empty() { name.to_owned() } else { format!("{id}/{name}") };
            look_through(&entry.path(), below, depth - 1, found);
        }
    }
    if is_run {
        let id = if id.is_empty() { ".".to_owned() } else { id };
        found.push(Run { id, folder: folder.to_path_buf() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_folder_holds_is_a_run() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("runs");
        for (folder, name) in [("a/b", METRICS), ("c", REPORT), ("none", "other.txt")] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join(name), "{\"step\":1}\n{\"step\":2}\n{\"st")
                .unwrap();
        }
        std::fs::write(place.path().join(METRICS), "secret\n").unwrap();
        let ids: Vec<String> = runs(&root).into_iter().map(|run| run.id).collect();
        assert_eq!(ids, ["a/b", "c"]);
        for id in ["..", "a/../..", "/etc", "", "none", "a"] {
            assert!(find(Some(root.clone()), id).is_err(), "{id}");
        }
        let file = std::fs::read(root.join("a/b").join(METRICS)).unwrap();
        let (lines, next) = lines_from(&file[..], 1);
        assert_eq!((lines, next), (vec![json!({ "step": 2 })], 2));
    }
}
