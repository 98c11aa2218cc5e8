//! dnstap: every message, or some, to whoever reads at a socket, or into a file.
//!
//! ```text
//! query path ─ Tap::saw ─ queue, bounded ─ "dnstap" thread: encode ─ frame ─ socket | file
//!                  └ full: counted
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::dnstap::{CONTENT_TYPE, Kind, Seen};
use super::frames;
use super::queue::{Intake, Next, Outlet, queue};
use crate::config::{Addresses, Share, TapConfig, TapTo};
use crate::limits::{TAP_FILE, TAP_QUEUE, TAP_QUEUE_BYTES, TAP_RETRY};
use crate::metrics::Metrics;
use crate::threads::tireless;

/// With this pause, what was written is flushed.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// A reader that takes nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the query path tells of messages to.
#[derive(Debug)]
pub struct Tap {
    intake: Intake<Seen>,
    sample: Share,
    queries: bool,
    responses: bool,
}

impl Tap {
    /// Starts the thread. It stops when the flag is set and all is written.
    ///
    /// # Errors
    /// The file cannot be made, or there is no thread to be had. A socket that nobody reads is none: it is tried again
    /// and again.
    pub fn start(
        config: TapConfig,
        identity: String,
        metrics: Arc<Metrics>,
        stopping: Arc<AtomicBool>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let TapConfig { to, sample, queries, responses, addresses } = config;
        let (intake, outlet) = queue(TAP_QUEUE, TAP_QUEUE_BYTES, stopping);
        let sink = match to {
            TapTo::File(path) => Sink::File(Roll::open(path.clone()).map_err(|error| named(&path, error))?),
            TapTo::Socket(path) => Sink::Socket(Reader { path, stream: None, tried: None }),
        };
        let mut writer = Writer { sink, identity, addresses, metrics };
        let thread = tireless("dnstap", move || writer.run(&outlet))?;
        Ok((Self { intake, sample, queries, responses }, thread))
    }

    /// True if the query with this number is to be told of.
    pub fn wants(&self, tick: u32) -> bool {
        self.sample.has(tick)
    }

    /// Takes note of a message, or forgets it if too many are waiting.
    pub fn saw(&self, metrics: &Metrics, kind: Kind, seen: impl FnOnce() -> Seen) {
        let wanted = match kind {
            Kind::AuthQuery => self.queries,
            Kind::AuthResponse => self.responses,
        };
        if wanted {
            let seen = seen();
            let octets = seen.message.len() + size_of::<Seen>();
            self.intake.put(seen, octets, &metrics.dnstap_dropped);
        }
    }
}

/// Looks whether a file could be made; makes none. A socket need not be there.
///
/// # Errors
/// Why it could not, with its name.
pub fn check(config: &TapConfig) -> io::Result<()> {
    let TapTo::File(path) = &config.to else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let no = |text: &str| Err(named(path, io::Error::other(text)));
    match (folder.metadata(), path.symlink_metadata()) {
        (Err(error), _) => no(&format!("its folder: {error}")),
        (Ok(folder), _) if !folder.is_dir() => no("its folder is none"),
        (_, Ok(found)) if !found.is_file() => no("there is something that is no plain file"),
        _ => Ok(()),
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("dnstap.file {}: {error}", path.display()))
}

/// What the thread does.
struct Writer {
    sink: Sink,
    identity: String,
    addresses: Addresses,
    metrics: Arc<Metrics>,
}

enum Sink {
    Socket(Reader),
    File(Roll),
}

impl Writer {
    fn run(&mut self, outlet: &Outlet<Seen>) {
        loop {
            let done = match outlet.next(FLUSH_AFTER) {
                Next::Item(seen) => self.write(seen),
                Next::Pause => self.sink.flush(),
                Next::Stop => break,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "dnstap cannot be written");
            }
        }
        if let Err(error) = self.sink.close() {
            tracing::warn!(%error, "dnstap could not be ended");
        }
    }

    fn write(&mut self, seen: Seen) -> io::Result<()> {
        let data = seen.encode(&self.identity, self.addresses);
        let written = self.sink.write(&data);
        match written {
            Ok(true) => self.metrics.dnstap_written.add(1),
            Ok(false) | Err(_) => self.metrics.dnstap_dropped.add(1),
        }
        written.map(drop)
    }
}

impl Sink {
    /// False if nobody reads.
    fn write(&mut self, data: &[u8]) -> io::Result<bool> {
        match self {
            Self::File(file) => file.write(data).map(|()| true),
            Self::Socket(reader) => reader.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.out.flush(),
            Self::Socket(reader) => reader.with(|stream| stream.flush()),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        match self {
            Self::File(file) => frames::end(&mut file.out),
            Self::Socket(reader) => match reader.stream.take() {
                Some(stream) => frames::close(&mut stream.into_inner().map_err(io::IntoInnerError::into_error)?),
                None => Ok(()),
            },
        }
    }
}

/// Who reads at a socket.
struct Reader {
    path: PathBuf,
    stream: Option<BufWriter<UnixStream>>,
    /// When it was looked for in vain.
    tried: Option<Instant>,
}

impl Reader {
    fn write(&mut self, data: &[u8]) -> io::Result<bool> {
        if self.stream.is_none() && !self.connect() {
            return Ok(false);
        }
        self.with(|stream| frames::frame(stream, data)).map(|()| true)
    }

    /// Does something with the stream, if there is one; it is left if that fails.
    fn with(&mut self, work: impl FnOnce(&mut BufWriter<UnixStream>) -> io::Result<()>) -> io::Result<()> {
        let done = self.stream.as_mut().map_or(Ok(()), work);
        if done.is_err() {
            // What is in the buffer is lost with the reader: it must not be written on the way out.
            let _ = self.stream.take().map(BufWriter::into_parts);
        }
        done
    }

    fn connect(&mut self) -> bool {
        if self.tried.is_some_and(|tried| tried.elapsed() < TAP_RETRY) {
            return false;
        }
        match open(&self.path) {
            Ok(stream) => {
                tracing::info!(path = %self.path.display(), "dnstap has a reader");
                (self.stream, self.tried) = (Some(BufWriter::new(stream)), None);
            }
            Err(error) => {
                if self.tried.is_none() {
                    tracing::warn!(%error, path = %self.path.display(), "dnstap has no reader; it is looked for again");
                }
                self.tried = Some(Instant::now());
            }
        }
        self.stream.is_some()
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    frames::open(&mut stream, CONTENT_TYPE)?;
    Ok(stream)
}

/// A file, and after it is full another one: the one before is kept as `FILE.old`.
struct Roll {
    path: PathBuf,
    out: BufWriter<File>,
    octets: u64,
}

impl Roll {
    fn open(path: PathBuf) -> io::Result<Self> {
        let out = create(&path)?;
        Ok(Self { path, out, octets: 0 })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if self.octets + frames::framed(data) > TAP_FILE {
            frames::end(&mut self.out)?;
            *self = Self::open(std::mem::take(&mut self.path))?;
        }
        self.octets += frames::framed(data);
        frames::frame(&mut self.out, data)
    }
}

fn create(path: &Path) -> io::Result<BufWriter<File>> {
    // What is no plain file is left alone, and refused below.
    if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        std::fs::rename(path, old)?;
    }
    let mut out = BufWriter::new(File::options().write(true).create_new(true).mode(0o640).open(path)?);
    frames::begin(&mut out, CONTENT_TYPE)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let told = |path: &Path| {
            let config = Config::from_toml(&format!("[dnstap]\nfile = {path:?}")).unwrap().dnstap.unwrap();
            let (metrics, stopping) = (Arc::<Metrics>::default(), Arc::new(AtomicBool::new(true)));
            let checked = check(&config).map_err(|error| error.to_string());
            let started = Tap::start(config, "gw".into(), metrics, stopping).map(|(_, thread)| thread.join().unwrap());
            assert_eq!(checked.is_ok(), started.is_ok(), "{checked:?} {started:?}");
            let named = started.map_err(|error| assert!(error.to_string().contains("dnstap.file ")));
            assert_eq!(checked.is_ok(), named.is_ok());
            checked.err().unwrap_or_default()
        };
        assert_eq!(told(&dir.path().join("queries.tap")), "");
        let missing = told(&dir.path().join("absent/queries.tap"));
        assert!(missing.contains("absent/queries.tap: its folder: No such file"), "{missing}");
        assert!(told(dir.path()).contains("no plain file"));
        assert!(told(&dir.path().join("queries.tap/x")).contains("its folder is none"));
    }
}
