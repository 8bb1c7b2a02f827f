//! A real `engram start` whose log is read while it runs, and what tests ask of it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Http;
use super::plain;

/// Longer than anything that is waited for takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until there is an answer; a test that asks too long fails.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    // Nobody ever sends: a pause that ends by itself.
    let (_keep, pause) = mpsc::channel::<()>();
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        assert_eq!(pause.recv_timeout(Duration::from_millis(3)), Err(RecvTimeoutError::Timeout));
    }
}

/// A running server. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Live {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// Its address, as a URL.
    pub(crate) url: String,
}

impl Live {
    /// Starts one, and waits until it is ready.
    pub(crate) fn start(dir: &Path, data: &Path, more: &[&str]) -> Self {
        let server = Self::spawn(dir, data, more);
        server.wait_until_ready();
        server
    }

    /// Starts one, and waits for its address alone.
    pub(crate) fn spawn(dir: &Path, data: &Path, more: &[&str]) -> Self {
        let mut command = plain(dir);
        command
            .args(["start", "--listen", "127.0.0.1:0", "--log", "json", "--data"])
            .arg(data)
            .args(more);
        Self::of(command)
    }

    /// The same of a command that is made already.
    pub(crate) fn of(command: Command) -> Self {
        let ended = |status: ExitStatus, log: &str| panic!("no address: {status}\n{log}");
        Self::of_or_end(command, ended).unwrap()
    }

    /// The same; `None` where it ended before it said its address, after `ended` was told its status
    /// and its log.
    pub(crate) fn of_or_end(
        mut command: Command,
        ended: impl FnOnce(ExitStatus, &str),
    ) -> Option<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let into = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let rest = std::thread::spawn(move || {
            let more = stdout.lines().map_while(Result::ok).count();
            assert_eq!(more, 0, "stdout carries the address alone");
        });
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let mut server = Self { child, log, readers: vec![reader, rest], url };
        if server.url.starts_with("http://127.0.0.1:") {
            return Some(server);
        }
        let status = server.child.wait().unwrap();
        server.join();
        ended(status, &server.ended_log());
        None
    }

    /// Waits until it is ready, or says that it never will be, or is gone. Says whether it is.
    pub(crate) fn wait_until_settled(&self) -> bool {
        wait_for("the server to settle", || match self.http().call("GET", "/readyz", b"") {
            Ok(reply) if reply.status == 200 => Some(true),
            Ok(reply) => (!reply.text().contains("recovering")).then_some(false),
            Err(_) => Some(false),
        })
    }

    /// Waits until `/readyz` says so.
    pub(crate) fn wait_until_ready(&self) {
        wait_for("the server to be ready", || {
            let ready = self.http().call("GET", "/readyz", b"");
            ready.ok().filter(|reply| reply.status == 200)
        });
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(&self.url)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Every line of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Lines of its log at WARN and above.
    pub(crate) fn complaints(&self) -> Vec<String> {
        complaints(&self.log())
    }

    /// Waits until the idle log has left its mark behind what is written now.
    pub(crate) fn wait_for_idle_mark(&self) {
        let mut http = self.http();
        let mut last = None;
        let began = Instant::now();
        wait_for("the idle mark", || {
            let wal = http.get("/v1/wal");
            let now = (wal["head_lsn"].as_u64(), wal["synced_lsn"].as_u64());
            if last != Some(now) {
                last = Some(now);
                return None;
            }
            // A mark needs two looks of the writer's, 200 ms apart each.
            (now.0 == now.1 && began.elapsed() > Duration::from_millis(1_100)).then_some(())
        });
    }

    /// SIGKILL; gives its log.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.code().is_none(), "it had ended before: {status}\n{:?}", self.log());
        self.join();
        self.log()
    }

    /// SIGTERM, and SIGKILL once `moment` returns, which is asked for its pace whether it has ended.
    /// Gives its log.
    #[allow(dead_code, reason = "each test program uses its part of it")]
    pub(crate) fn kill_while_closing(
        mut self,
        moment: impl FnOnce(&mut dyn FnMut() -> bool),
    ) -> Vec<String> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let child = &mut self.child;
        moment(&mut || child.try_wait().unwrap().is_some());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.join();
        self.log()
    }

    /// SIGTERM; gives its exit status and log.
    pub(crate) fn stop(mut self) -> (ExitStatus, Vec<String>) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        self.join();
        (status, self.log())
    }

    /// SIGTERM to a server from which nothing but a quiet end is wanted.
    pub(crate) fn stop_cleanly(self) {
        let (status, log) = self.stop();
        assert_eq!(status.code(), Some(0), "{log:?}");
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
    }

    fn ended_log(&self) -> String {
        self.log().join("\n")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lines of a log at WARN and above.
pub(crate) fn complaints(log: &[String]) -> Vec<String> {
    let is = |line: &&String| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        !matches!(event["level"].as_str(), Some("INFO" | "DEBUG" | "TRACE"))
    };
    log.iter().filter(is).cloned().collect()
}
