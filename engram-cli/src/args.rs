//! The command line, as types. What is not said here comes from the environment and from
//! `engram.toml`: see [`crate::settings`].

#![expect(clippy::doc_markdown, reason = "these comments are the help, which shows no markdown")]

pub(crate) mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use engram_core::Durability;
use engram_core::storage::wal::report::RecoveryMode;
use tracing_subscriber::filter::LevelFilter;

/// Durable episodic memory for AI agents.
///
/// Every flag can be given as an environment variable too, and as a key of engram.toml; flags win
/// over the environment, the environment over the file.
#[derive(Debug, Parser)]
#[command(name = "engram", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Settings file [else ./engram.toml, else $XDG_CONFIG_HOME/engram/engram.toml]
    #[arg(long, global = true, value_name = "FILE", env = "ENGRAM_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The settings file that was read.
    #[arg(skip)]
    pub(crate) settings_file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Start(Box<StartArgs>),
    /// Remember one episode
    Remember(Box<RememberArgs>),
    /// Recall episodes by words, by meaning, and by what they are
    Recall(Box<RecallArgs>),
    /// Show one episode
    Get(GetArgs),
    /// Forget one episode, or a whole space
    Forget(ForgetArgs),
    /// List episodes, newest first
    List(ListArgs),
    /// List the spaces
    Spaces(OverviewArgs),
    /// Show how the server's log is doing, and what its last recovery found
    Status(OverviewArgs),
    /// Embed a space anew, by the embedder that the server is configured with
    Reembed(ReembedArgs),
    /// Import episodes: JSON lines, or a v0.1.0 data directory
    Import(ImportArgs),
    /// Export episodes as JSON lines
    Export(ExportArgs),
    /// Look at a log, compact it, and see what left it
    Wal(WalArgs),
    /// The story in one minute: remember, kill, damage, restart, nothing readable lost
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    Man {
        /// The command that it is of, such as: wal verify [else the whole program's]
        command: Vec<String>,
    },
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// What turns text into vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmbedderName {
    /// The table in this program: offline, English.
    Builtin,
    /// Nothing: recall goes by words, and by the vectors that callers bring.
    None,
    /// An OpenAI-compatible endpoint: see --embedder-url.
    Openai,
}

/// What turns text into vectors, and how it is reached.
#[derive(Debug, Args)]
pub(crate) struct EmbedderArgs {
    /// What turns text into vectors: the built-in table, nothing (callers bring vectors), or an
    /// OpenAI-compatible endpoint. Its key is read from ENGRAM_EMBEDDER_KEY
    #[arg(long, value_name = "NAME", value_enum, default_value = "builtin")]
    pub(crate) embedder: EmbedderName,
    /// The endpoint, without the /embeddings at its end
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) embedder_url: Option<String>,
    /// The endpoint's model; spaces are fixed to it
    #[arg(long, value_name = "NAME", value_parser = values::model)]
    pub(crate) embedder_model: Option<String>,
    /// Numbers in the model's vectors, 1 to 4096
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) embedder_dimension: Option<u32>,
    /// A file with the endpoint's key [else ENGRAM_EMBEDDER_KEY]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) embedder_key_file: Option<PathBuf>,
    /// Texts that are sent at a time, 1 to 2048
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::embedder_batch)]
    pub(crate) embedder_batch: usize,
    /// Longest that the vectors of episodes may take, 100ms to 10m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::embedder_timeout)]
    pub(crate) embedder_timeout: Duration,
    /// Longest that a recall waits for the vector of its cue, 10ms to 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::cue_timeout)]
    pub(crate) embedder_cue_timeout: Duration,
}

/// `engram start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7432", value_parser = values::listen)]
    pub(crate) listen: String,
    /// When an acknowledged change is on disk: always, interval=20ms, never
    #[arg(long, value_name = "MODE", default_value = "always", value_parser = values::durability)]
    pub(crate) durability: Durability,
    /// What to do about damage: keep all that is readable, or refuse to start
    #[arg(long, value_name = "MODE", default_value = "salvage", value_parser = recovery_parser())]
    pub(crate) recovery: RecoveryMode,
    /// Go on over a missing or unreadable range of LSNs
    #[arg(long, value_name = "FIRST-LAST", value_delimiter = ',', value_parser = values::lsn_range)]
    pub(crate) accept_loss: Vec<(u64, u64)>,
    /// Largest segment of the log, 1MiB to 1GiB
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::segment_bytes)]
    pub(crate) segment_bytes: u64,
    /// Longest that forgotten bytes stay in the log
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = values::duration)]
    pub(crate) forget_erase_max: Duration,
    /// Fastest that compaction may copy; 0 for no limit
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes)]
    pub(crate) compaction_bytes_per_second_max: u64,
    /// Most changes that may wait for the log before callers hear "busy"
    #[arg(long, value_name = "N", default_value = "65536", value_parser = values::queue_max)]
    pub(crate) queue_max: usize,
    #[command(flatten)]
    pub(crate) embedder: EmbedderArgs,
    /// How logs are written, to standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(crate) log: LogFormat,
    /// How much is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level_parser())]
    pub(crate) log_level: LevelFilter,
}

fn recovery_parser() -> impl clap::builder::TypedValueParser<Value = RecoveryMode> {
    PossibleValuesParser::new(["salvage", "strict"]).map(|text| match text.as_str() {
        "strict" => RecoveryMode::Strict,
        _ => RecoveryMode::Salvage,
    })
}

fn level_parser() -> impl clap::builder::TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .map(|text| text.parse().unwrap_or(LevelFilter::INFO))
}

/// Where the memory is.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Data directory [else $XDG_DATA_HOME/engram, else ~/.local/share/engram]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
}

/// Which server to talk to, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7432", value_hint = ValueHint::Url)]
    pub(crate) server: String,
    /// Answer with the server's JSON
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

/// Which server and space to talk to, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct SpaceArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The space
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) space: String,
}

/// `engram remember`.
#[derive(Debug, Args)]
pub(crate) struct RememberArgs {
    /// What happened; - reads it from standard input
    #[arg(value_name = "TEXT")]
    pub(crate) what: String,
    #[command(flatten)]
    pub(crate) target: SpaceArgs,
    /// Its id; an episode of that id is replaced [else the server makes one]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// When it happened, as RFC 3339 [else now]
    #[arg(long, value_name = "TIME")]
    pub(crate) when: Option<String>,
    /// Where it happened
    #[arg(long, value_name = "PLACE")]
    pub(crate) r#where: Option<String>,
    /// Who took part; may be given many times
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Vec<String>,
    /// How sure the memory is, 0 to 1
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = values::confidence)]
    pub(crate) confidence: Option<f64>,
    /// Anything else, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json_object)]
    pub(crate) metadata: Option<Box<serde_json::value::RawValue>>,
    /// A file with the embedding: a JSON list of numbers
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) embedding: Option<PathBuf>,
    /// The model that made it; it must be the space's
    #[arg(long, value_name = "NAME", requires = "embedding", value_parser = values::model)]
    pub(crate) embedding_model: Option<String>,
    /// Refuse to replace an episode that exists
    #[arg(long, requires = "id", value_parser = BoolishValueParser::new())]
    pub(crate) new: bool,
}

/// `engram recall`.
#[derive(Debug, Args)]
pub(crate) struct RecallArgs {
    /// What to recall; "…" asks for a phrase, word* for a beginning [may be left out where another
    /// field asks]
    #[arg(value_name = "TEXT")]
    pub(crate) text: Option<String>,
    #[command(flatten)]
    pub(crate) target: SpaceArgs,
    /// At most so many, 1 to 1000 [else 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) limit: Option<u64>,
    /// Not older than this, as RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Older than this, as RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// At this place
    #[arg(long, value_name = "PLACE")]
    pub(crate) r#where: Option<String>,
    /// With this person; may be given many times, and then means all of them
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Vec<String>,
    /// With these members in its metadata, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json_object)]
    pub(crate) metadata: Option<Box<serde_json::value::RawValue>>,
    /// At least this sure, 0 to 1
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = values::confidence)]
    pub(crate) min_confidence: Option<f64>,
    /// A file with an embedding to compare with: a JSON list of numbers
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) embedding: Option<PathBuf>,
    /// The model that made it; it must be the space's
    #[arg(long, value_name = "NAME", requires = "embedding", value_parser = values::model)]
    pub(crate) embedding_model: Option<String>,
    /// Say how the answer was found
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) explain: bool,
}

/// `engram get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The episode's id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) target: SpaceArgs,
}

/// `engram forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The episode's id
    #[arg(required_unless_present = "whole_space")]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) target: SpaceArgs,
    /// Forget every episode of this space
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) whole_space: Option<String>,
}

/// `engram list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) target: SpaceArgs,
    /// Not older than this, as RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Older than this, as RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// With this person
    #[arg(long, value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// At this place
    #[arg(long, value_name = "PLACE")]
    pub(crate) r#where: Option<String>,
    /// At most so many (with --all: in a page), 1 to 1000 [else 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) limit: Option<u64>,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub(crate) cursor: Option<String>,
    /// Every page
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) all: bool,
}

/// `engram spaces` and `engram status`.
#[derive(Debug, Args)]
pub(crate) struct OverviewArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `engram reembed`.
#[derive(Debug, Args)]
pub(crate) struct ReembedArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The space [else every space whose vectors are not its callers']
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// Also where callers gave the vectors: those stay in the log, and out of use
    #[arg(long, requires = "space", value_parser = BoolishValueParser::new())]
    pub(crate) replace_given: bool,
    /// Only begin; it goes on in the server
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) no_wait: bool,
}

/// `engram import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A file of JSON lines, - for standard input, or a v0.1.0 data directory
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Put everything into this space [else each line's own, else default]
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// Replace episodes that exist [else they are left as they are]
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) replace: bool,
}

/// `engram export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Only this space [else all]
    #[arg(long, value_name = "NAME")]
    pub(crate) space: Option<String>,
    /// Write to a file [else to standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// `engram wal`.
#[derive(Debug, Args)]
pub(crate) struct WalArgs {
    #[command(subcommand)]
    pub(crate) command: WalCommand,
}

/// What to do with a log.
#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Show the segments, and what recovery would find (read-only)
    Inspect(OfflineArgs),
    /// Check every byte; exits 0 clean, 1 damage found, 2 could not look (read-only)
    Verify(OfflineArgs),
    /// Print every frame and every bad span, in log order (read-only)
    Dump(OfflineArgs),
    /// Drop from the log, now, all that memory knows to be dead
    Compact(WalServerArgs),
    /// What left the log, and how to get it back
    Quarantine(QuarantineArgs),
}

/// A look at a data directory.
#[derive(Debug, Args)]
pub(crate) struct OfflineArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Answer with JSON
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

/// A data directory that no server has open, or a server.
#[derive(Debug, Args)]
pub(crate) struct WalServerArgs {
    #[command(flatten)]
    pub(crate) offline: OfflineArgs,
    /// Ask this running server, instead of opening the data directory
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) server: Option<String>,
}

/// `engram wal quarantine`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

/// What to do with the quarantine.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what is kept there
    List(WalServerArgs),
    /// Show one item: what is known of it, and its bytes
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        offline: OfflineArgs,
    },
    /// Append its intact frames to the log again, where nothing newer has taken their place
    Restore {
        /// Its name
        name: String,
        #[command(flatten)]
        place: WalServerArgs,
    },
    /// Remove an item for ever
    Purge {
        /// Its name
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// Remove every item
        #[arg(long, conflicts_with = "name", value_parser = BoolishValueParser::new())]
        all: bool,
        #[command(flatten)]
        offline: OfflineArgs,
    },
}

/// `engram demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the demo's data directory, and say where it is
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) keep: bool,
}
