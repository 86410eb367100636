//! What a reload can't change: it is taken once, when the gateway starts.

use crate::config::Config;

/// The parts of a config that are taken once, by their names in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fixed([(&'static str, String); 8]);

impl Fixed {
    /// Those of a config as it stands in its file.
    pub(crate) fn of(config: &Config) -> Self {
        let Config {
            listen,
            tasks,
            telemetry,
            limits,
            state,
            ..
        } = config;
        let mut outputs = telemetry.clone();
        let audit = outputs.audit.take();
        // As texts, since they need only be told apart; no secret is in a config.
        Self([
            ("listen", format!("{listen:?}")),
            ("limits", format!("{limits:?}")),
            ("telemetry", format!("{outputs:?}")),
            ("audit", format!("{audit:?}")),
            ("state", format!("{state:?}")),
            ("tasks.signing_key", format!("{:?}", tasks.signing_key)),
            ("tasks.issuer", format!("{:?}", tasks.issuer)),
            ("tasks.store", format!("{:?}", tasks.store)),
        ])
    }

    /// What to tell an operator whose config says otherwise now.
    pub(crate) fn warnings(&self, now: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&now.0);
        pairs
            .filter(|(running, now)| running != now)
            .map(|((name, _), _)| {
                format!("`{name}` has changed; it is taken at start: restart the gateway")
            })
            .collect()
    }
}
