//! Threads by the rule that none of them ends unnoticed: what the service lives by ends the process, which is then started
//! again; what it can do without is started again itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

/// Exit status of a process that ends with one of its threads: EX_SOFTWARE of `sysexits.h`.
pub const DIED: i32 = 70;

/// Between a panic and another try.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts a thread without which the process must not go on: where it panics, the process ends with [`DIED`].
///
/// # Errors
/// The system has no thread to give.
pub fn vital(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let told = name.to_owned();
    Builder::new().name(name.to_owned()).spawn(move || {
        // Nothing is used after a panic: the process ends.
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("thread {told} panicked, and nothing works without it: the process ends");
            exit(DIED);
        }
    })
}

/// Starts a thread that does `run` again where it panics, until it returns. `run` must find its state whole after a panic.
///
/// # Errors
/// The system has no thread to give.
pub fn tireless(name: &str, mut run: impl FnMut() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let told = name.to_owned();
    Builder::new().name(name.to_owned()).spawn(move || {
        while catch_unwind(AssertUnwindSafe(&mut run)).is_err() {
            tracing::error!("thread {told} panicked; it begins again");
            sleep(AGAIN);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_can_be_done_without_begins_again_and_ends_when_it_is_over() {
        let (sender, receiver) = mpsc::channel();
        let mut tries = 0;
        let run = move || {
            tries += 1;
            sender.send(tries).unwrap();
            assert!(tries > 1, "the first try breaks");
        };
        tireless("tireless", run).unwrap().join().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2]);
    }

    /// Set where this program runs for [`dies`].
    const IN_CHILD: &str = "GHOSTPLANE_DIES";

    #[test]
    fn what_all_depends_on_ends_the_process() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "threads::tests::dies"]).env(IN_CHILD, "1");
        assert_eq!(child.output().unwrap().status.code(), Some(DIED));
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn dies() {
        if std::env::var_os(IN_CHILD).is_some() {
            vital("fine", || {}).unwrap().join().unwrap();
            vital("vital", || panic!("on purpose")).unwrap().join().unwrap();
        }
    }
}
