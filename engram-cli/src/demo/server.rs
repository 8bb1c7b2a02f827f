//! The demo's stage: a temporary directory, and the one server that runs on it at a time.
//!
//! Whatever way the demo ends, by a claim that fails or by a signal, the server that it started
//! is ended, and the directory is removed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, Method};
use crate::failure::{Failure, Outcome};

/// Longest that a server may take from its start to readiness.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A temporary directory, and who runs on it.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
    keep: bool,
    /// The running server, where a signal finds it too.
    child: Arc<Mutex<Option<Child>>>,
}

/// A server that is ready.
#[derive(Debug)]
pub(super) struct Running<'a> {
    stage: &'a Stage,
    client: Client,
}

impl Stage {
    /// Makes the directory, and sees to it that signals leave nothing behind.
    pub(super) fn new(keep: bool) -> Outcome<Self> {
        let root = tempfile::Builder::new()
            .prefix("engram-demo-")
            .tempdir()
            .map_err(|e| Failure::failed(format!("cannot make a temporary directory: {e}")))?
            .keep();
        let stage = Self { root, keep, child: Arc::default() };
        stage.clear_on_signal();
        Ok(stage)
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("memory")
    }

    /// Starts a server, and waits until it is ready.
    pub(super) fn start(&self) -> Outcome<Running<'_>> {
        let log = File::create(self.log()).map_err(|e| self.trouble(&e))?;
        let mut command = self.command(&["start", "--listen", "127.0.0.1:0", "--log", "json"])?;
        let stdout = {
            // Held while it is born, so that no signal comes between and misses it.
            let mut place = self.child();
            let child = command.stdout(Stdio::piped()).stderr(log).spawn();
            place.insert(child.map_err(|e| self.trouble(&e))?).stdout.take()
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(|e| self.trouble(&e))?;
        }
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            return Err(self.did_not_start());
        };
        let running = Running { stage: self, client: Client::new(url)? };
        self.wait_until_ready(&running.client)?;
        Ok(running)
    }

    fn wait_until_ready(&self, client: &Client) -> Outcome {
        let began = Instant::now();
        loop {
            let ready = client.send(Method::Get, "/readyz", &[], &[]);
            if ready.is_ok_and(|answer| answer.ok()) {
                return Ok(());
            }
            let ended = match self.child().as_mut() {
                Some(child) => child.try_wait().map_err(|e| self.trouble(&e))?.is_some(),
                None => true,
            };
            if ended || began.elapsed() > READY_TIMEOUT {
                return Err(self.did_not_start());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs another command of this program on the data directory.
    pub(super) fn run(&self, args: &[&str]) -> Outcome<(Option<i32>, Vec<u8>)> {
        let output =
            self.command(args)?.stderr(Stdio::inherit()).output().map_err(|e| self.trouble(&e))?;
        Ok((output.status.code(), output.stdout))
    }

    fn command(&self, args: &[&str]) -> Outcome<Command> {
        let program = std::env::current_exe().map_err(|e| self.trouble(&e))?;
        let mut command = Command::new(program);
        // Whatever this machine has set for its own engram is not for the demo.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("ENGRAM_")) {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .arg("--data")
            .arg(self.data())
            .current_dir(&self.root)
            .env("XDG_CONFIG_HOME", &self.root)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Ends the server, if one runs, and removes the directory.
    pub(super) fn clear(&self) {
        clear(&self.root, self.keep, &self.child);
    }

    fn clear_on_signal(&self) {
        let (root, keep, child) = (self.root.clone(), self.keep, Arc::clone(&self.child));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let signalled = runtime.is_ok_and(|runtime| {
                runtime.block_on(async { crate::start::signalled().await.is_ok() })
            });
            if signalled {
                clear(&root, keep, &child);
                std::process::exit(130);
            }
        });
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    fn did_not_start(&self) -> Failure {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it logged nothing");
        Failure::failed(format!("the demo's server did not become ready: {last}"))
    }

    fn trouble(&self, error: &std::io::Error) -> Failure {
        Failure::failed(format!("the demo in {} failed: {error}", self.root.display()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear();
    }
}

fn clear(root: &Path, keep: bool, child: &Mutex<Option<Child>>) {
    let child = child.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut child) = child {
        // It may have ended by itself; then there is nothing to end.
        drop(child.kill());
        drop(child.wait());
    }
    if !keep {
        // A temporary directory that stays is a pity, and no reason to fail.
        drop(fs::remove_dir_all(root));
    }
}

impl Running<'_> {
    /// Talks to it.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// SIGKILL.
    pub(super) fn kill(self) -> Outcome {
        let killed = self.end(Child::kill)?;
        if killed.success() {
            return Err(Failure::failed("the server had ended before it was killed"));
        }
        Ok(())
    }

    /// SIGTERM; gives the exit code and the log of this run.
    pub(super) fn stop(self) -> Outcome<(Option<i32>, String)> {
        let status = self.end(|child| {
            let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            let id = id.ok_or(std::io::ErrorKind::NotFound)?;
            Ok(rustix::process::kill_process(id, rustix::process::Signal::TERM)?)
        })?;
        let log = fs::read_to_string(self.stage.log()).map_err(|e| self.stage.trouble(&e))?;
        Ok((status.code(), log))
    }

    fn end(&self, how: impl FnOnce(&mut Child) -> std::io::Result<()>) -> Outcome<ExitStatus> {
        let trouble = |e: std::io::Error| self.stage.trouble(&e);
        let child = self.stage.child().take();
        let mut child = child.ok_or_else(|| Failure::failed("no server runs"))?;
        how(&mut child).map_err(|e| {
            // It must not outlive the demo, whatever went wrong.
            drop(child.kill());
            trouble(e)
        })?;
        child.wait().map_err(trouble)
    }
}
