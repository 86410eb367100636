//! The legacy bridge: a static key, or several that go together, until a date.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::{
    Field, Fields, LeaseView, Material, Obtained, Provider, ProviderError, Revocation, SecretRef,
    Wish, narrowing,
};

/// The legacy bridge: a static key, or several that go together, until a date.
///
/// The key outlives every task: its leases end with `drop_only`. It can't be narrowed.
#[derive(Debug)]
pub struct Static {
    kept: Kept,
    until: Date,
}

/// Where a static key is kept.
#[derive(Clone, Debug)]
pub enum Kept {
    /// One secret.
    One(SecretRef),
    /// Several, by name.
    Fields(Vec<KeptField>),
}

/// One of several secrets that are kept.
#[derive(Clone, Debug)]
pub struct KeptField {
    /// Its name.
    pub name: String,
    /// Where it is kept.
    pub secret: SecretRef,
    /// Whether an answer may show it.
    pub is_public: bool,
}

impl From<SecretRef> for Kept {
    fn from(secret: SecretRef) -> Self {
        Self::One(secret)
    }
}

impl Static {
    /// What is kept is read at each use of a new lease; `until` is the last day, in UTC, on which it is used.
    pub fn new(kept: impl Into<Kept>, until: Date) -> Self {
        let kept = kept.into();
        Self { kept, until }
    }
}

impl Kept {
    async fn read(&self) -> Result<Material, ProviderError> {
        match self {
            Self::One(secret) => Ok(secret.read().await?.into()),
            Self::Fields(kept) => {
                let mut fields = Vec::with_capacity(kept.len());
                for field in kept {
                    fields.push(Field {
                        name: field.name.clone(),
                        secret: field.secret.read().await?,
                        is_public: field.is_public,
                    });
                }
                Ok(Material::Fields(Fields::new(fields)?))
            }
        }
    }

    /// What of it makes a config.
    fn texts(&self) -> Vec<String> {
        match self {
            Self::One(secret) => vec![secret.to_string()],
            Self::Fields(kept) => {
                let texts = kept.iter().flat_map(|field| {
                    let is_public = field.is_public.to_string();
                    [field.name.clone(), field.secret.to_string(), is_public]
                });
                texts.collect()
            }
        }
    }
}

#[async_trait::async_trait]
impl Provider for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn digest(&self) -> String {
        // The date is no part of it: a bridge that is prolonged is the same.
        let texts = self.kept.texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        crate::provider::digest(&texts)
    }

    fn bridge_until(&self) -> Option<Date> {
        Some(self.until)
    }

    fn rereads(&self) -> bool {
        true
    }

    async fn obtain(&self, wish: &Wish) -> Result<Obtained, ProviderError> {
        // A key is whole: a narrowing that nobody keeps is refused.
        narrowing::scopes(wish, &[])?;
        narrowing::only(&wish.narrow, &[])?;
        let today = jiff::Timestamp::now()
            .to_zoned_datetime(TimeZone::UTC)
            .date();
        if self.until < today {
            return Err(ProviderError::BridgeExpired(self.until));
        }
        Ok(Obtained {
            material: self.kept.read().await?,
            ttl_seconds: None,
            handle: None,
        })
    }

    async fn revoke(&self, _lease: &LeaseView) -> Revocation {
        Revocation::DropOnly
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Folder, wish};

    async fn check(scopes: &[&str], narrow: Value, expect: Result<(), &str>) {
        let folder = Folder::new();
        let provider = Static::new(folder.secret("key", "s3cr3t"), Date::MAX);
        let mut wish = wish();
        wish.scopes = scopes.iter().map(|one| (*one).to_owned()).collect();
        wish.narrow = narrow.as_object().cloned().unwrap_or_default();
        let obtained = provider.obtain(&wish).await.map(drop);
        let told = obtained.map_err(|error| error.to_string());
        assert_eq!(told, expect.map_err(str::to_owned), "{scopes:?}");
    }

    #[tokio::test]
    async fn a_decision_that_narrows_nothing_has_the_key() {
        check(&[], json!({}), Ok(())).await;
    }
    #[tokio::test]
    async fn a_decision_that_narrows_has_none() {
        let scope = "decision asks for scope `read`, which the config does not allow";
        check(&["read"], json!({}), Err(scope)).await;
        let resource = "decision narrows by `resource`, which this provider can't";
        check(&[], json!({ "resource": "a" }), Err(resource)).await;
    }
}
