//! Servers as processes: Engram's binary, and Redis and PostgreSQL where they are installed.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::server::Server;
use crate::wire::http::Http;
use crate::wire::postgres::{Postgres, USER};
use crate::wire::redis::Redis;
use crate::wire::{Clients, Protocol};

/// Longest wait for a server to answer.
const READY_MAX: Duration = Duration::from_mins(1);

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it is called in tables.
    pub(crate) name: &'static str,
    /// `host:port`.
    pub(crate) address: String,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Engram(Server),
    Redis(Child),
    Postgres(Child),
}

/// Starts a server on a directory of its own.
type Start = fn(&Path) -> Outcome<Running>;

/// The servers by name, Engram first: without its embedder, and as it starts.
const ALL: [(&str, Start); 4] = [
    ("engram-server", |dir| engram("engram-server", dir, &["--embedder", "none"])),
    ("engram-server, embedding", |dir| engram("engram-server, embedding", dir, &[])),
    ("redis", redis),
    ("postgres", postgres),
];

/// Their names, in that order.
pub(crate) const NAMES: [&str; ALL.len()] = {
    let [(engram, _), (embedding, _), (redis, _), (postgres, _)] = ALL;
    [engram, embedding, redis, postgres]
};

/// Starts those that are there; the others are named with the reason.
pub(crate) fn start_all(dir: &Path, wants: impl Fn(&str) -> bool) -> (Vec<Running>, Vec<String>) {
    let (mut running, mut missing) = (Vec::new(), Vec::new());
    for (name, start) in ALL.into_iter().filter(|(name, _)| wants(name)) {
        match start(&dir.join(name.replace(", ", "-"))) {
            Ok(server) => running.push(server),
            Err(cause) => missing.push(format!("{name} is left out: {cause}")),
        }
    }
    (running, missing)
}

impl Running {
    /// Connects so many clients.
    pub(crate) fn clients(&self, count: usize, record: &str) -> Outcome<Clients> {
        let protocol: Box<dyn Protocol> = match self.process {
            Process::Engram(_) => Box::new(Http),
            Process::Redis(_) => Box::new(Redis),
            Process::Postgres(_) => Box::new(Postgres),
        };
        Clients::connect(&self.address, protocol, count, record)
    }

    /// Its process id, as a name below `/proc`.
    pub(crate) fn process(&self) -> String {
        match &self.process {
            Process::Engram(server) => server.id().to_string(),
            Process::Redis(child) | Process::Postgres(child) => child.id().to_string(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (child, signal) = match &mut self.process {
            // It has a way of its own.
            Process::Engram(_) => return,
            Process::Redis(child) => (child, Signal::TERM),
            // "Immediate": its children go with it, and its directory goes anyway.
            Process::Postgres(child) => (child, Signal::QUIT),
        };
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // It may have ended already; then there is nothing to do.
        id.map(|id| kill_process(id, signal).unwrap_or_default()).unwrap_or_default();
        child.wait().map(|_| ()).unwrap_or_default();
    }
}

fn engram(name: &'static str, dir: &Path, arguments: &[&str]) -> Outcome<Running> {
    let server = Server::start_with(dir, arguments)?;
    Ok(Running { name, address: server.address.clone(), process: Process::Engram(server) })
}

/// Redis, syncing before each answer. No snapshots, and no rewriting of its log, which would only
/// cost it time here.
fn redis(dir: &Path) -> Outcome<Running> {
    let program = find("redis-server", "apt-get install redis-server")?;
    std::fs::create_dir_all(dir)?;
    let port = free_port()?;
    let child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(dir)
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
        .args(["--auto-aof-rewrite-percentage", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let address = format!("127.0.0.1:{port}");
    let running = Running { name: "redis", address, process: Process::Redis(child) };
    wait_for(|| TcpStream::connect(&running.address).is_ok(), "redis-server")?;
    Ok(running)
}

/// PostgreSQL: memory for its buffers and room for its log, as its manual says for a server of
/// its own; synced before each answer; values kept as they are, since they do not compress.
fn postgres(dir: &Path) -> Outcome<Running> {
    const SETTINGS: [&str; 9] = [
        "fsync=on",
        "synchronous_commit=on",
        "shared_buffers=1GB",
        "wal_buffers=16MB",
        "min_wal_size=1GB",
        "max_wal_size=4GB",
        "checkpoint_timeout=15min",
        "max_connections=200",
        "unix_socket_directories=",
    ];
    let initdb = find("initdb", "apt-get install postgresql")?;
    let program = find("postgres", "apt-get install postgresql")?;
    std::fs::create_dir_all(dir)?;
    let owner = postgres_owner()?;
    if let Some((user, group)) = owner {
        chown(dir, Some(user), Some(group))?;
    }
    let as_owner = |program: &Path| {
        let mut command = Command::new(program);
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command.current_dir(dir).stdin(Stdio::null());
        command
    };
    let data = dir.join("data");
    let made = as_owner(&initdb)
        .args(["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"])
        .arg(format!("--username={USER}"))
        .arg("--pgdata")
        .arg(&data)
        .output()?;
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(format!("initdb: {}", why.trim_end()).into());
    }
    let port = free_port()?;
    let mut command = as_owner(&program);
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let address = format!("127.0.0.1:{port}");
    let running = Running { name: "postgres", address, process: Process::Postgres(child) };
    let enter = || -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(&running.address)?;
        Postgres::enter(&mut stream)?;
        Ok(stream)
    };
    wait_for(|| enter().is_ok(), "postgres")?;
    let mut stream = enter()?;
    Postgres::execute(&mut stream, "CREATE TABLE episodes (id text PRIMARY KEY, what text)")?;
    let plain = "ALTER TABLE episodes ALTER COLUMN what SET STORAGE EXTERNAL";
    Postgres::execute(&mut stream, plain)?;
    Ok(running)
}

/// PostgreSQL refuses to run as root; Debian's package brings a user for it.
fn postgres_owner() -> Outcome<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    let user = user.ok_or("it does not run as root, and there is no user \"postgres\"")?;
    let mut ids = user.split(':').skip(2).map(str::parse::<u32>);
    match (ids.next(), ids.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => Err("/etc/passwd has no ids for \"postgres\"".into()),
    }
}

/// A program of the path, or of Debian's place for PostgreSQL, the newest first.
fn find(name: &str, how: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> =
            versions.flatten().map(|version| version.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| format!("{name} is not installed ({how})").into())
}

/// A port that was free a moment ago.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(is_ready: impl Fn() -> bool, what: &str) -> Outcome<()> {
    let begin = Instant::now();
    while !is_ready() {
        if begin.elapsed() > READY_MAX {
            return Err(format!("{what} did not answer in a minute").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
