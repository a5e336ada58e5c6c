//! Somebody who names models of the hub.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::Server;

/// A user with a home of their own, who knows nothing of the outer world.
pub(crate) struct User {
    pub(crate) home: TempDir,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl User {
    pub(crate) fn of(server: &Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, variables: vec![("HF_ENDPOINT", server.endpoint())] }
    }

    pub(crate) fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmrag"));
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.args(arguments).env_clear().envs(variables);
        command.env("HOME", self.home.path()).current_dir(self.home.path());
        command
    }

    pub(crate) fn info(&self, model: &str) -> Output {
        self.command(&["model", "info", model]).output().expect("the command starts")
    }

    #[track_caller]
    pub(crate) fn finds(&self, model: &str) -> String {
        let output = self.info(model);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is said when it fails. It says all of `parts`.
    #[track_caller]
    pub(crate) fn fails(&self, model: &str, parts: &[&str]) {
        let output = self.info(model);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.home.path().join(".cache/huggingface/hub/models--org--name")
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.place().join("snapshots").join(commit)
    }

    /// The parts of files that came so far.
    pub(crate) fn parts(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(self.place().join("blobs")).unwrap();
        let parts = entries.map(|entry| entry.unwrap());
        let parts = parts.filter(|part| part.file_name().to_string_lossy().contains("incomplete"));
        parts.map(|part| part.metadata().unwrap().len()).collect()
    }

    /// Puts the first bytes of a content into the cache as if they had come.
    pub(crate) fn put_part(&self, name: &str, bytes: &[u8]) {
        let blobs = self.place().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{name}.incomplete")), bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn has(&self, commit: &str, file: &str, content: &[u8]) {
        let found = std::fs::read(self.snapshot(commit).join(file)).unwrap();
        assert!(found == content, "{file} has other bytes");
    }
}
