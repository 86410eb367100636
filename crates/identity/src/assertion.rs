//! Assertions: short-lived JWTs by which others know whom we speak for (RFC 7523 section 3).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use ring::hkdf;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::task_tokens::{InvalidKey, unique};
use crate::{Algorithm, TaskTokens, clock, crypto};

/// The `typ` of an assertion: that of no token which a gateway takes.
const KIND: &str = "JWT";

/// What an assertion says, besides `iss`, `iat`, `exp` and `jti`.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// Whom it is about (`sub`).
    pub subject: String,
    /// Whom it is for (`aud`).
    pub audience: String,
    /// Its life, in seconds.
    pub life: u64,
    /// Further claims; those named above win.
    pub claims: Map<String, Value>,
}

impl TaskTokens {
    /// Signs an assertion with the key of our tokens; `iss` is ours.
    ///
    /// # Errors
    /// Where the key can't sign, or the assertion is for ourselves: it would be a token of ours.
    pub fn assert(&self, assertion: &Assertion) -> Result<String, InvalidKey> {
        if assertion.audience == self.issuer() {
            return Err(InvalidKey("an assertion for ourselves".to_owned()));
        }
        self.sign(KIND, &claims(self.issuer(), assertion)?)
    }

    /// A key for another purpose, made of the signing key (HKDF, RFC 5869): who has it learns nothing of the signing
    /// key or of those for other purposes.
    ///
    /// # Errors
    /// None in practice: the length asked for is one that HKDF can give.
    pub fn derive(&self, purpose: &'static str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"remit");
        let extracted = salt.extract(self.signing_bytes());
        let info = [purpose.as_bytes()];
        let mut key = Zeroizing::new([0; 32]);
        let expanded = extracted.expand(&info, hkdf::HKDF_SHA256);
        let filled = expanded.and_then(|expanded| expanded.fill(&mut *key));
        filled.map_err(|_| InvalidKey("no key can be derived".to_owned()))?;
        Ok(key)
    }
}

/// A private key by which somebody else knows us.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    key_id: Option<String>,
    /// The thumbprint of its certificate.
    certificate: Option<String>,
}

impl SigningKey {
    /// Reads a PEM: P-256 for ES256, RSA of at least 2048 bits for RS256, Ed25519 for `EdDSA`. `key_id` becomes `kid`.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything else.
    pub fn from_pem(pem: &[u8], key_id: Option<&str>) -> Result<Self, InvalidKey> {
        crypto::install();
        let (algorithm, key) = read(pem).map_err(|_| {
            let expected = "expected the PEM of a private key: P-256, Ed25519 or RSA";
            InvalidKey(expected.to_owned())
        })?;
        Ok(Self {
            algorithm,
            key,
            key_id: key_id.map(str::to_owned),
            certificate: None,
        })
    }

    /// Names the certificate (DER) that goes with an RSA key by its thumbprint (`x5t#S256`, RFC 7515 section 4.1.8), and
    /// signs with PS256.
    ///
    /// # Errors
    /// Where the key is not RSA.
    pub fn with_certificate(mut self, certificate: &[u8]) -> Result<Self, InvalidKey> {
        self.rsa()?;
        let thumbprint = ring::digest::digest(&ring::digest::SHA256, certificate);
        self.algorithm = Algorithm::PS256;
        self.certificate = Some(URL_SAFE_NO_PAD.encode(thumbprint));
        Ok(self)
    }

    /// That it is an RSA key, where no other is taken.
    ///
    /// # Errors
    /// Where it is not.
    pub fn rsa(&self) -> Result<(), InvalidKey> {
        match self.algorithm {
            Algorithm::RS256 | Algorithm::PS256 => Ok(()),
            _ => Err(InvalidKey("expected an RSA key".to_owned())),
        }
    }

    /// Signs an assertion of `issuer`.
    ///
    /// # Errors
    /// Where the key can't sign.
    pub fn assert(&self, issuer: &str, assertion: &Assertion) -> Result<String, InvalidKey> {
        self.sign(&claims(issuer, assertion)?)
    }

    /// Signs claims as they are: for those who take these and no others.
    ///
    /// # Errors
    /// Where the key can't sign.
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<String, InvalidKey> {
        let mut header = jsonwebtoken::Header::new(self.algorithm.into());
        header.typ = Some(KIND.to_owned());
        header.kid.clone_from(&self.key_id);
        header.x5t_s256.clone_from(&self.certificate);
        jsonwebtoken::encode(&header, claims, &self.key)
            .map_err(|error| InvalidKey(error.to_string()))
    }
}

// By hand, so that no key comes into a log.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

fn claims(issuer: &str, assertion: &Assertion) -> Result<Map<String, Value>, InvalidKey> {
    let now = clock::now();
    let mut claims = assertion.claims.clone();
    let ours = [
        ("iss", json!(issuer)),
        ("sub", json!(assertion.subject)),
        ("aud", json!(assertion.audience)),
        ("iat", json!(now)),
        ("exp", json!(now.saturating_add_unsigned(assertion.life))),
        ("jti", json!(unique()?)),
    ];
    claims.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    Ok(claims)
}

fn read(pem: &[u8]) -> jsonwebtoken::errors::Result<(Algorithm, EncodingKey)> {
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        crypto::p256(key.as_bytes())?;
        return Ok((Algorithm::ES256, key));
    }
    if let Ok(key) = EncodingKey::from_rsa_pem(pem) {
        crypto::rsa(key.as_bytes())?;
        return Ok((Algorithm::RS256, key));
    }
    let key = EncodingKey::from_ed_pem(pem)?;
    crypto::ed25519(key.as_bytes())?;
    Ok((Algorithm::EdDSA, key))
}
