//! Arrows between crates point down; each that may exist is written here.

use anyhow::Context as _;

/// What each crate may use of the workspace, tests included.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mmrag-core", &[]),
    ("mmrag-ops", &[]),
    ("mmrag-map", &[]),
    ("mmrag-read", &["mmrag-core"]),
    ("mmrag-task", &["mmrag-core"]),
    ("mmrag-data", &["mmrag-core", "mmrag-map"]),
    ("mmrag-model", &["mmrag-core", "mmrag-ops", "mmrag-map"]),
    ("mmrag-rag", &["mmrag-core", "mmrag-map", "mmrag-task"]),
    ("mmrag-train", &["mmrag-core", "mmrag-ops", "mmrag-model", "mmrag-task"]),
    (
        "mmrag",
        &[
            "mmrag-core",
            "mmrag-ops",
            "mmrag-task",
            "mmrag-data",
            "mmrag-model",
            "mmrag-rag",
            "mmrag-read",
            "mmrag-train",
        ],
    ),
    ("xtask", &[]),
];

/// The arrows of one manifest that may not be.
///
/// # Errors
///
/// When the manifest is no TOML or names no package.
pub(super) fn check(file: &str, manifest: &str) -> anyhow::Result<Vec<String>> {
    let manifest: toml::Table =
        manifest.parse().with_context(|| format!("failed to read {file} as TOML"))?;
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .with_context(|| format!("failed to find the package name in {file}"))?;
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return Ok(vec![format!("{file}: crate {name} has no floor; give it one in xtask")]);
    };
    Ok(workspace_crates(&manifest)
        .filter(|used| !allowed.contains(&used.as_str()))
        .map(|used| format!("{file}: {name} must not use {used}"))
        .collect())
}

/// Names of the workspace's crates in every dependency table, those under `target` included.
fn workspace_crates(manifest: &toml::Table) -> impl Iterator<Item = String> {
    let mut tables: Vec<&toml::Table> = vec![manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flat_map(|t| t.values().filter_map(toml::Value::as_table)));
    let mut names: Vec<String> = tables
        .iter()
        .flat_map(|table| {
            ["dependencies", "dev-dependencies", "build-dependencies"]
                .into_iter()
                .filter_map(|key| table.get(key)?.as_table())
        })
        .flat_map(toml::Table::iter)
        .map(|(key, value)| {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            renamed.unwrap_or(key).to_owned()
        })
        .filter(|name| name.starts_with("mmrag"))
        .collect();
    names.sort();
    names.dedup();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[track_caller]
    fn assert_arrows(manifest: &str, expected: &[&str]) {
        let problems = check("Cargo.toml", manifest).unwrap();
        assert_eq!(problems, expected);
    }

    #[test]
    fn an_arrow_that_points_up_is_named() {
        assert_arrows("package.name = 'mmrag-task'\ndependencies.mmrag-core.workspace = true", &[]);
        assert_arrows(
            "package.name = 'mmrag-task'\ndev-dependencies.mmrag-model.workspace = true",
            &["Cargo.toml: mmrag-task must not use mmrag-model"],
        );
        assert_arrows(
            "package.name = 'mmrag-rag'\n[target.'cfg(unix)'.dependencies.m]\npackage = 'mmrag-model'",
            &["Cargo.toml: mmrag-rag must not use mmrag-model"],
        );
    }

    #[test]
    fn a_crate_without_a_floor_is_named() {
        assert_arrows(
            "package.name = 'mmrag-new'",
            &["Cargo.toml: crate mmrag-new has no floor; give it one in xtask"],
        );
    }

    #[test]
    fn a_manifest_without_a_name_is_an_error() {
        assert!(check("Cargo.toml", "[package]").is_err());
    }
}
