//! What the run came to: medians, and medians of ratios that were taken within a round.

use std::fs;

use serde_json::{Value, json};

use super::envoy;
use super::field::{BARE, Field};
use super::load::Round;

/// What was measured so far, one row for each target.
pub(super) struct Report {
    rows: Vec<Row>,
    missing: Vec<String>,
    workers: usize,
    connections: usize,
    load_before: String,
    /// Requests per second at which the waits were measured.
    pub(super) pace: Option<f64>,
}

struct Row {
    name: &'static str,
    rounds: Vec<Round>,
    paced: Vec<f64>,
    crowd_kib: Option<u64>,
}

impl Report {
    pub(super) fn new(workers: usize, connections: usize, field: &Field) -> Self {
        let rows = field.targets.iter().map(|target| Row {
            name: target.name,
            rounds: Vec::new(),
            paced: Vec::new(),
            crowd_kib: None,
        });
        Self {
            rows: rows.collect(),
            missing: field.missing.clone(),
            workers,
            connections,
            load_before: load_average(),
            pace: None,
        }
    }

    pub(super) fn add(&mut self, name: &str, round: Round) {
        self.change(name, |row| row.rounds.push(round));
    }

    pub(super) fn add_paced(&mut self, name: &str, p50_us: f64) {
        self.change(name, |row| row.paced.push(p50_us));
    }

    pub(super) fn add_crowd(&mut self, name: &str, rss_kib: u64) {
        self.change(name, |row| row.crowd_kib = Some(rss_kib));
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            change(row);
        }
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub(super) fn requests_per_second(&self, name: &str) -> Option<f64> {
        self.row(name)?.median(|round| round.per_second)
    }

    fn values(&self, row: &Row) -> Value {
        let cpu = |round: &Round| round.cpu_us;
        let per_second = |round: &Round| round.per_second;
        let waits_longer = self.row("direct").and_then(|direct| {
            let longer = row.paced.iter().zip(&direct.paced);
            median(longer.map(|(through, direct)| through - direct).collect())
        });
        json!({
            "name": row.name,
            "requests_per_second": row.median(per_second).map(f64::round),
            "p50_ms": row.median(|round| round.p50_us / 1e3),
            "p99_ms": row.median(|round| round.p99_us / 1e3),
            "cpu_us": row.median(cpu),
            "cpu_to_pingora": self.row(BARE).and_then(|bare| row.ratio(bare, cpu)),
            "requests_to_envoy_uncached": self
                .row(envoy::UNCACHED)
                .and_then(|envoy| row.ratio(envoy, per_second)),
            "rss_mib": row.rounds.last().map(|round| mib(round.rss_kib)),
            "rss_mib_at_1000_connections": row.crowd_kib.map(mib),
            "p50_us_at_half_load": median(row.paced.clone()),
            "p50_us_added_at_half_load": waits_longer,
        })
    }

    /// One JSON object.
    pub(super) fn json(&self) -> Value {
        json!({
            "workers": self.workers,
            "connections": self.connections,
            "load_average_before": self.load_before,
            "load_average_after": load_average(),
            "half_load_requests_per_second": self.pace.map(f64::round),
            "missing": self.missing,
            "targets": self.rows.iter().map(|row| self.values(row)).collect::<Vec<_>>(),
        })
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let heading = [
            "",
            "req/s",
            "p50 ms",
            "p99 ms",
            "CPU us",
            "/pingora",
            "/envoy",
            "MiB",
            "1000 con.",
            "half p50",
            "added us",
        ];
        let mut lines = vec![line(&heading.map(str::to_owned))];
        for row in &self.rows {
            let values = self.values(row);
            let number = |key: &str, decimals: usize| match values.get(key).and_then(Value::as_f64)
            {
                Some(number) => format!("{number:.decimals$}"),
                None => "-".to_owned(),
            };
            lines.push(line(&[
                row.name.to_owned(),
                number("requests_per_second", 0),
                number("p50_ms", 2),
                number("p99_ms", 2),
                number("cpu_us", 1),
                number("cpu_to_pingora", 2),
                number("requests_to_envoy_uncached", 2),
                number("rss_mib", 0),
                number("rss_mib_at_1000_connections", 0),
                number("p50_us_at_half_load", 0),
                number("p50_us_added_at_half_load", 0),
            ]));
        }
        lines.push(format!(
            "\n{} workers each, {} connections, load average {} before and {} after; medians, ratios within rounds.\n\
             /pingora: CPU per request to the bare proxy's. /envoy: requests per second to uncached jwt_authn and RBAC.",
            self.workers,
            self.connections,
            self.load_before,
            load_average()
        ));
        if let Some(pace) = self.pace {
            lines.push(format!("half p50: all called {pace:.0} times a second."));
        }
        lines.extend(
            self.missing
                .iter()
                .map(|missing| format!("missing: {missing}")),
        );
        lines.join("\n")
    }
}

impl Row {
    fn median(&self, of: impl Fn(&Round) -> f64) -> Option<f64> {
        median(self.rounds.iter().map(of).collect())
    }

    fn ratio(&self, base: &Self, of: impl Fn(&Round) -> f64) -> Option<f64> {
        let pairs = self.rounds.iter().zip(&base.rounds);
        median(pairs.map(|(own, base)| of(own) / of(base)).collect())
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

#[expect(clippy::cast_precision_loss, reason = "far less than 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn line(cells: &[String]) -> String {
    let padded = cells.iter().enumerate().map(|(column, cell)| {
        if column == 0 {
            format!("{cell:<24}")
        } else {
            format!("{cell:>9}")
        }
    });
    padded.collect::<Vec<_>>().join(" ")
}

/// Over one, five and fifteen minutes.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::median;

    #[track_caller]
    fn check(numbers: &[f64], expect: Option<f64>) {
        assert_eq!(median(numbers.to_vec()), expect);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        check(&[3.0, 1.0, 2.0], Some(2.0));
        check(&[7.0], Some(7.0));
        check(&[], None);
    }
}
