//! What the tests of the binary share: a clean command, a real server, and a fake one.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

pub(crate) mod chat;
pub(crate) mod endpoint;
pub(crate) mod fake;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod live;
pub(crate) mod rng;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// A port where nobody listens.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

/// `engram`, untouched by this machine's settings, in a directory of its own.
pub(crate) fn engram(dir: &Path) -> assert_cmd::Command {
    assert_cmd::Command::from_std(plain(dir))
}

/// The same, for tests that handle the process themselves.
pub(crate) fn plain(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ENGRAM_")) {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).env("HOME", dir).env("XDG_CONFIG_HOME", dir);
    command.env("XDG_DATA_HOME", dir).stdin(Stdio::null());
    command
}

/// What standard error said.
pub(crate) fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What standard output said.
pub(crate) fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A real `engram start`, ended when dropped.
pub(crate) struct Server {
    child: Child,
    rest: BufReader<ChildStdout>,
    /// Its address, as a URL.
    pub(crate) url: String,
}

impl Server {
    /// Starts one on `data`, and waits for its address.
    pub(crate) fn start(dir: &Path, data: &Path, more: &[&str]) -> Self {
        let mut child = plain(dir)
            .args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut rest = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line:?}");
        let server = Self { child, rest, url };
        server.wait_until_ready(dir);
        server
    }

    fn wait_until_ready(&self, dir: &Path) {
        // Each try is a whole process, so this waits on the server without sleeping.
        for _ in 0..2_000 {
            let output = engram(dir).args(["spaces", "--server", &self.url]).output().unwrap();
            if output.status.success() {
                return;
            }
        }
        panic!("the server did not become ready");
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit status, what else came on stdout, and the log.
    pub(crate) fn stop(mut self) -> (ExitStatus, String, String) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let (mut said, mut log) = (String::new(), String::new());
        self.rest.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), said, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
