//! How a command ends when it does not end well: an exit code and one sentence.

use std::io::Write as _;
use std::process::ExitCode;

use crate::out::clean_lines;

/// What every command gives.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ends with another code than 0 (or, [`Failure::hung_up`], early with 0).
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Exit code 1: the thing that was asked for did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// Exit code 2: wrong usage, or a setting that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// An exit code whose reason has been told already.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: String::new() }
    }

    /// Whoever read our answers went away (`engram list | head -1`): stop, and say nothing.
    pub(crate) fn hung_up() -> Self {
        Self::silent(0)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// The same failure under another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same exit code, with nothing more to say.
    pub(crate) fn told(self) -> Self {
        Self::silent(self.code)
    }

    /// The sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on standard error, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            // With standard error gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "engram: {}", clean_lines(&self.message)));
        }
        ExitCode::from(self.code)
    }
}

/// Says on standard error what the caller should know although the command goes on.
pub(crate) fn note(text: &str) {
    // With standard error gone there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "engram: {}", clean_lines(text)));
}

impl From<engram_core::Error> for Failure {
    fn from(error: engram_core::Error) -> Self {
        Self::failed(error.to_string())
    }
}
