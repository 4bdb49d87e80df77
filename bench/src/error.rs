//! What can go wrong, by whose fault, and the exit code that says so.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why there is no complete, valid result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The command line or a file it names asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read or written, or is not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers at the address.
    #[error("cannot reach {target}: {source}")]
    Unreachable {
        /// The target as given.
        target: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody answers, but not in the protocol of the URL.
    #[error("{target} does not speak the protocol of this URL: {problem}")]
    Protocol {
        /// The target as given.
        target: String,
        /// What came instead.
        problem: String,
    },
    /// The target refuses the credentials, or wants some.
    #[error("{target} refuses access: {problem}")]
    Access {
        /// The target as given.
        target: String,
        /// The target's words.
        problem: String,
    },
    /// The machine under the generator refuses something it cannot do without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The run ended early or partly failed; what was measured is reported and marked.
    #[error("the result is partial: {0}")]
    Partial(String),
    /// The target answered wrongly.
    #[error("{0}")]
    WrongAnswers(String),
}

impl BenchError {
    pub(crate) fn usage(problem: impl Into<String>) -> Self {
        Self::Usage(problem.into())
    }

    pub(crate) fn file(path: impl AsRef<Path>, problem: impl Display) -> Self {
        Self::File { path: path.as_ref().to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn system(what: impl Into<String>, source: io::Error) -> Self {
        Self::System { what: what.into(), source }
    }

    /// 2: the command line or a file; 3: the target cannot be used; 4: a partial result; 5: wrong
    /// answers; 1: anything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Unreachable { .. } | Self::Protocol { .. } | Self::Access { .. } => 3,
            Self::Partial(_) => 4,
            Self::WrongAnswers(_) => 5,
            Self::System { .. } => 1,
        })
    }
}
