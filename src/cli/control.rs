//! The operator's door to a running server: a Unix socket in the data directory, which only its owner may open. One
//! line of words in, one line out.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::threads::tireless;

/// A client that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a line.
const MAX_LINE: u64 = 4_096;

fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Answers lines on a thread of its own until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(data: &Path, answer: impl Fn(&str) -> anyhow::Result<String> + Send + 'static) -> anyhow::Result<()> {
    let path = path(data);
    // The registry's lock is held: whoever made this one has ended.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tireless("control", move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, it fails again at once.
                sleep(Duration::from_millis(50));
                continue;
            };
            if let Err(error) = converse(stream, &answer) {
                tracing::debug!(%error, "control connection");
            }
        }
    })?;
    Ok(())
}

fn converse(mut stream: UnixStream, answer: &impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_LINE)).read_line(&mut line)?;
    let told = match answer(line.trim()) {
        Ok(told) => format!("ok {told}\n"),
        Err(error) => format!("error {}\n", format!("{error:#}").replace('\n', " ")),
    };
    Ok(stream.write_all(told.as_bytes())?)
}

/// Asks the server that runs over `data`; `None` if there is none.
///
/// # Errors
/// The server refuses, or does not answer.
pub fn ask(data: &Path, line: &str) -> anyhow::Result<Option<String>> {
    let Ok(mut stream) = UnixStream::connect(path(data)) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut told = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut told)?;
    match told.trim().split_once(' ') {
        Some(("ok", rest)) => Ok(Some(rest.to_owned())),
        None if told.trim() == "ok" => Ok(Some(String::new())),
        Some(("error", why)) => bail!("the server refused: {why}"),
        _ => bail!("the server gave no answer"),
    }
}
