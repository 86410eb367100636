//! What shows another cloud who the gateway is, without a key of that cloud's.

use identity::TaskTokens;
use zeroize::Zeroizing;

use crate::{ProviderError, Secret, SecretRef, Statement, Wish};

/// What shows another cloud who the gateway is, without a key of that cloud's: workload identity federation.
#[derive(Clone, Debug)]
pub enum Federated {
    /// A statement of the gateway's, or of somebody whose key it has.
    Statement(Statement),
    /// A token that somebody puts there and replaces in time, such as the kubelet; read for each use.
    Token(SecretRef),
}

/// How long a statement lives, in seconds: it is used at once.
const STATEMENT_LIFE: u64 = 60;

impl Federated {
    /// What is shown for a wish.
    pub(crate) async fn shown(
        &self,
        tokens: &TaskTokens,
        wish: &Wish,
    ) -> Result<Secret, ProviderError> {
        match self {
            Self::Statement(statement) => {
                let life = STATEMENT_LIFE.min(wish.ttl_seconds);
                let signed = statement.sign(tokens, wish, &[], life).await?;
                Secret::from_wiped(Zeroizing::new(signed.as_bytes().to_vec()))
            }
            Self::Token(token) => token.read().await,
        }
    }

    /// What of it makes a config.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Statement(statement) => {
                let mut texts = vec!["statement".to_owned()];
                texts.extend(statement.texts());
                texts
            }
            Self::Token(token) => vec!["token".to_owned(), token.to_string()],
        }
    }
}
