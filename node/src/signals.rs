//! SIGINT and SIGTERM ask for a clean stop, a second one ends the process at once; SIGHUP is taken
//! and logged, so that a closing terminal or an operator's habit does not kill a node.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Starts the thread that waits for signals; `on_stop` is called for the first one that asks for a stop.
///
/// # Errors
/// The system's, if handlers or the thread cannot be set up.
pub(crate) fn watch(on_stop: impl Fn(&'static str) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let watch = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let name = match signal {
                SIGHUP => {
                    tracing::warn!("SIGHUP: nothing to reload, the configuration is read at the start only");
                    continue;
                }
                SIGINT => "SIGINT",
                _ => "SIGTERM",
            };
            if stopping {
                tracing::warn!("{name} again: stopping at once");
                // What a shell reports for a process that the signal killed.
                std::process::exit(128 + signal);
            }
            stopping = true;
            on_stop(name);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}
