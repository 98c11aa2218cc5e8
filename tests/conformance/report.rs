//! Verdicts, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Case, Level, Miss, Outcome};

/// Columns of the table.
const ID: usize = 18;
const SECTION: usize = 13;
const LEVEL: usize = 7;
const VERDICT: usize = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Skipped,
    /// Both ways are allowed; this is the one that the server goes.
    Observed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
            Self::Observed => "observed",
        }
    }
}

pub struct Finding {
    pub case: &'static Case,
    pub verdict: Verdict,
    pub detail: String,
    pub took: Duration,
}

impl Finding {
    pub fn new(case: &'static Case, outcome: Outcome, took: Duration) -> Self {
        let (verdict, detail) = match outcome {
            Ok(detail) if case.level == Level::May => (Verdict::Observed, detail),
            Ok(detail) => (Verdict::Pass, detail),
            Err(Miss::Fail(reason)) => (Verdict::Fail, reason),
            Err(Miss::Skip(reason)) => (Verdict::Skipped, reason),
        };
        Self { case, verdict, detail, took }
    }

    pub fn fails(&self, level: Level) -> bool {
        self.verdict == Verdict::Fail && self.case.level == level
    }

    /// A row of the table; a failure says what was expected, too.
    pub fn row(&self) -> String {
        let (case, verdict) = (self.case, self.verdict.word());
        let row = format!("{} {verdict:VERDICT$} {}", left_columns(case), self.detail);
        match self.verdict {
            Verdict::Fail => format!("{row}\n{:ID$}   expected: {}", "", case.text),
            _ => row.trim_end().to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.case.id,
            "section": format!("RFC {}", self.case.section),
            "level": self.case.level.word(),
            "text": self.case.text,
            "verdict": self.verdict.word().to_lowercase(),
            "detail": self.detail,
            "milliseconds": self.took.as_millis() as u64,
        })
    }
}

/// A row of `--list`.
pub fn listed(case: &Case) -> String {
    format!("{} {}", left_columns(case), case.text)
}

fn left_columns(case: &Case) -> String {
    format!("{:ID$} {:SECTION$} {:LEVEL$}", case.id, case.section, case.level.word())
}

/// The last line.
pub fn summary(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let failed = |level| findings.iter().filter(|finding| finding.fails(level)).count();
    format!(
        "{} cases: {} pass, {} fail ({} MUST, {} SHOULD, {} MAY), {} observed, {} skipped",
        findings.len(),
        count(Verdict::Pass),
        count(Verdict::Fail),
        failed(Level::Must),
        failed(Level::Should),
        failed(Level::May),
        count(Verdict::Observed),
        count(Verdict::Skipped),
    )
}

pub fn json(server: &str, findings: &[Finding]) -> String {
    let cases: Vec<Value> = findings.iter().map(Finding::json).collect();
    format!("{:#}", json!({ "server": server, "cases": cases, "summary": summary(findings) }))
}
