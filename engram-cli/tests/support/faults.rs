//! Faults from outside the program: a small file system, and system calls that fail.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::live::Live;

/// Says that a test cannot run here, and why. `make test` tells at its end what was put into the file
/// that `ENGRAM_SKIPPED` names: what a test that passes says is shown by no runner.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped: {test}: {reason}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
    if let Some(path) = std::env::var_os("ENGRAM_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// A file system in memory of a size of its own. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Small {
    dir: PathBuf,
}

impl Small {
    /// Mounts one; `None` where that is not allowed, after saying so.
    pub(crate) fn mount(dir: &Path, mebibytes: u64) -> Option<Self> {
        Self::mount_as(dir, &format!("size={mebibytes}m"))
    }

    /// The same, empty for ever.
    pub(crate) fn mount_read_only(dir: &Path) -> Option<Self> {
        Self::mount_as(dir, "ro")
    }

    fn mount_as(dir: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mount = ["-t", "tmpfs", "-o", options, "tmpfs"];
        match Command::new("mount").args(mount).arg(dir).output() {
            Ok(done) if done.status.success() => Some(Self { dir: dir.to_owned() }),
            Ok(done) => {
                let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                skip(&format!("a small file system cannot be mounted (that needs root): {why}"));
                None
            }
            Err(e) => {
                skip(&format!("a small file system cannot be mounted: {e}"));
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily, so that a server on its way out does not hold it.
        drop(Command::new("umount").arg("-l").arg(&self.dir).output());
    }
}

/// System calls of a running server that fail. They stop failing when this is dropped.
#[derive(Debug)]
pub(crate) struct Injection {
    strace: Child,
    reader: Option<JoinHandle<()>>,
    /// Where it writes what it did, when that is wanted.
    report: Option<tempfile::NamedTempFile>,
}

impl Injection {
    /// Makes calls fail as `strace -e inject=` says; `None` where that cannot be, after saying so.
    pub(crate) fn on(server: &Live, inject: &str) -> Option<Self> {
        let calls = inject.split(':').next().unwrap_or_default();
        Self::attach(server, calls, inject, None)
    }

    /// The same of `calls`, as `fault` says; [`Injection::end`] tells how many were hit.
    pub(crate) fn counted(server: &Live, calls: &str, fault: &str) -> Option<Self> {
        let report = tempfile::NamedTempFile::new().unwrap();
        Self::attach(server, calls, &format!("{calls}:{fault}"), Some(report))
    }

    /// Ends it. Gives how many calls it made fail.
    pub(crate) fn end(mut self) -> usize {
        let report = self.report.take().unwrap();
        drop(self);
        let text = std::fs::read_to_string(report.path()).unwrap();
        text.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    fn attach(
        server: &Live,
        calls: &str,
        inject: &str,
        report: Option<tempfile::NamedTempFile>,
    ) -> Option<Self> {
        let mut command = Command::new("strace");
        let to = report.as_ref().map_or(Path::new("/dev/null"), tempfile::NamedTempFile::path);
        command.args(["-f", "-s", "0", "-o"]).arg(to);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}"), "-p"]);
        command.arg(server.id().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut strace = match command.stderr(Stdio::piped()).spawn() {
            Ok(strace) => strace,
            Err(e) => {
                skip(&format!("strace cannot be started ({e}); apt-get install strace"));
                return None;
            }
        };
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        let mut said = String::new();
        while stderr.read_line(&mut said).unwrap() > 0 {
            if said.contains("attached") {
                let reader = Some(std::thread::spawn(move || {
                    stderr.lines().map_while(Result::ok).for_each(drop);
                }));
                return Some(Self { strace, reader, report });
            }
        }
        drop(strace.wait());
        let refused = ["not permitted", "denied", "not implemented"];
        assert!(refused.iter().any(|word| said.contains(word)), "strace {inject}: {said}");
        skip(&format!("strace may not trace here: {}", said.trim()));
        None
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Asked to end, it lets go of the server; killed, it might not.
        kill_process(Pid::from_child(&self.strace), Signal::TERM).ok();
        drop(self.strace.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
