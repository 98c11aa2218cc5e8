//! What people see: aligned tables, plain errors.

use std::io::IsTerminal as _;

/// Rows with their columns aligned; the last column is left ragged.
pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let pad = if at + 1 < row.len() { widths[at] + 2 - cell.chars().count() } else { 0 };
            text.push_str(cell);
            text.push_str(&" ".repeat(pad));
        }
        text.push('\n');
    }
    text
}

/// `key  value` lines.
pub fn facts(facts: &[(&str, String)]) -> String {
    align(&facts.iter().map(|(key, value)| vec![(*key).to_owned(), value.clone()]).collect::<Vec<_>>())
}

/// Text of somebody else's, fit for a terminal: without control characters.
pub fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// A time as RFC 3339 has it, in UTC.
pub fn time(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Prints an error with its causes; in red on a terminal unless NO_COLOR is set.
pub fn print_error(error: &anyhow::Error) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (on, off) = if colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{on}error:{off} {}", causes(error));
}

/// Says what is wrong though it goes on: in the log if there is one.
pub fn warn(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::warn!("{text}");
    } else {
        eprintln!("warning: {text}");
    }
}

/// An error with its causes, but those whose words its own end with.
fn causes(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .reduce(|told, cause| if told.ends_with(&cause) { told } else { format!("{told}: {cause}") })
        .unwrap_or_default()
}

/// Ends the process without a word when whoever reads its output has gone (`| head -1`): `println!` would panic.
pub fn end_with_the_reader() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        if words.starts_with("failed printing to stdout") && words.contains("Broken pipe") {
            // What a shell says of a process that SIGPIPE ended.
            std::process::exit(141);
        }
        default(panic);
    }));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot listen: {source}")]
        struct Doubled {
            source: std::io::Error,
        }
        let doubled = Doubled { source: std::io::Error::other("taken") };
        let error = anyhow::Error::new(doubled).context("serve");
        assert_eq!(super::causes(&error), "serve: cannot listen: taken");
        assert_eq!(super::causes(&anyhow::anyhow!("low").context("high")), "high: low");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb", "c"], ["aaa", "b", "cc"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::align(&rows), "a    bb  c\naaa  b   cc\n");
        assert_eq!(super::time(1_800_000_000), "2027-01-15T08:00:00Z");
    }
}
