//! Log lines go to stderr, so that stdout holds the banner and nothing else.

use std::io;
use std::panic;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};
use crate::failure::Failure;

/// Starts logging for the whole process.
///
/// # Errors
/// [`Failure::Config`] if the level is no filter.
pub(crate) fn start(settings: &Settings) -> Result<(), Failure> {
    let level = &settings.log_level;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Failure::Config(format!(
            "log_level '{level}' is not a level: {error}; write error, warn, info, debug or trace, or a filter such \
             as info,pinnace=debug"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match settings.log_format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Says which core met a bug and where, and ends the process: living on with a dead core would answer
/// some keys and never others.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let reason = text.unwrap_or("no reason given");
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        place,
        "bug: {reason}; the node stops at once, please report this line"
    );
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use crate::config::{Config, Layer};

    /// Set in the process that is to die.
    const VICTIM: &str = "PINNACE_TEST_PANIC";

    #[test]
    fn a_panic_ends_the_process_and_names_thread_and_place() {
        if std::env::var_os(VICTIM).is_some() {
            super::start(&Config::load(&Layer::default(), &[], None).unwrap().settings).unwrap();
            let core =
                thread::Builder::new().name("core-3".to_owned()).spawn(|| panic!("a bug for this test"));
            let _ = core.unwrap().join();
            return; // Living on is what must not happen.
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "logging::tests::a_panic_ends_the_process_and_names_thread_and_place",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{log}");
        for part in ["bug: a bug for this test", "core-3", "logging.rs:"] {
            assert!(log.contains(part), "'{part}' is not in: {log}");
        }
    }
}
