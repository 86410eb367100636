//! An OpenID issuer: discovery, a key set, tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Serving;

/// An OpenID issuer: discovery, a key set of three keys (one per algorithm), tokens, and trouble at will.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
    _serving: Serving,
}

/// The signature algorithms that an issuer has keys for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// ECDSA over P-256.
    ES256,
    /// RSA of 2048 bits. The keys are known to everybody: they are in the repository.
    RS256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::ES256, Self::RS256, Self::EdDSA];

    /// The name in `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// How an issuer answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// As it should.
    Well,
    /// 503.
    Down,
    /// As it should, after a while.
    Slow(Duration),
    /// With 64 MiB of JSON.
    Huge,
    /// With a redirect to where all is well.
    Redirecting,
    /// With what is no JSON.
    Garbled,
}

#[derive(Debug)]
struct Shared {
    keys: Mutex<Keys>,
    mood: Mutex<Mood>,
    discoveries: AtomicUsize,
    key_sets: AtomicUsize,
}

impl Issuer {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            keys: Mutex::new(Keys::generate(1)),
            mood: Mutex::new(Mood::Well),
            discoveries: AtomicUsize::new(0),
            key_sets: AtomicUsize::new(0),
        });
        let document = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::as_str),
        });
        let well = document.clone();
        let discover = async move |State(shared): State<Arc<Shared>>| {
            shared.discoveries.fetch_add(1, Ordering::SeqCst);
            shared.answer(document, "/well/discovery").await
        };
        let jwks = async |State(shared): State<Arc<Shared>>| {
            shared.key_sets.fetch_add(1, Ordering::SeqCst);
            let keys = shared.keys.lock().public();
            shared.answer(keys, "/well/jwks").await
        };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discover))
            .route("/jwks", get(jwks))
            .route("/well/discovery", get(async move || axum::Json(well)))
            .route(
                "/well/jwks",
                get(async |State(shared): State<Arc<Shared>>| {
                    axum::Json(shared.keys.lock().public())
                }),
            )
            .with_state(Arc::clone(&shared));
        let serving = Serving::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            shared,
            _serving: serving,
        }
    }

    /// Its `iss`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers like this from now on.
    pub fn mood(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    /// Throws all keys away and makes new ones.
    pub fn rotate(&self) {
        let mut keys = self.shared.keys.lock();
        *keys = Keys::generate(keys.generation + 1);
    }

    /// How often its discovery document was fetched.
    pub fn discoveries(&self) -> usize {
        self.shared.discoveries.load(Ordering::SeqCst)
    }

    /// How often its key set was fetched.
    pub fn key_sets(&self) -> usize {
        self.shared.key_sets.load(Ordering::SeqCst)
    }

    /// Claims that are in order: of this issuer, for `audience`, about `subject`, for five minutes.
    pub fn claims(&self, subject: &str, audience: &str) -> Value {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        json!({ "iss": self.url, "sub": subject, "aud": audience, "iat": now, "exp": now + 300 })
    }

    /// Signs claims with the current key of an algorithm.
    pub fn mint(&self, algorithm: Algorithm, claims: &Value) -> String {
        let kid = self.shared.keys.lock().kid(algorithm);
        self.mint_with(
            algorithm,
            &json!({ "alg": algorithm.as_str(), "typ": "JWT", "kid": kid }),
            claims,
        )
    }

    /// Signs claims under any header, right or wrong.
    pub fn mint_with(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = self.shared.keys.lock().sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

impl Shared {
    async fn answer(&self, value: Value, well: &'static str) -> Response {
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => axum::Json(value).into_response(),
            Mood::Down => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Mood::Slow(after) => {
                tokio::time::sleep(after).await;
                axum::Json(value).into_response()
            }
            Mood::Huge => {
                let filler = "x".repeat(64 * 1024 * 1024);
                axum::Json(json!({ "filler": filler, "value": value })).into_response()
            }
            Mood::Redirecting => Redirect::temporary(well).into_response(),
            Mood::Garbled => "{ no JSON".into_response(),
        }
    }
}

/// One key per algorithm.
#[derive(Debug)]
struct Keys {
    generation: usize,
    es256: EcdsaKeyPair,
    rs256: RsaKeyPair,
    eddsa: Ed25519KeyPair,
}

/// Ring makes no RSA keys, so there are two, which take turns.
const RSA: [&[u8]; 2] = [
    include_bytes!("../keys/rsa-1.pk8"),
    include_bytes!("../keys/rsa-2.pk8"),
];

impl Keys {
    fn generate(generation: usize) -> Self {
        let random = SystemRandom::new();
        let es256 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let eddsa = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let rs256 = RSA.into_iter().cycle().nth(generation).unwrap();
        Self {
            generation,
            es256: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                es256.as_ref(),
                &random,
            )
            .unwrap(),
            rs256: RsaKeyPair::from_pkcs8(rs256).unwrap(),
            eddsa: Ed25519KeyPair::from_pkcs8(eddsa.as_ref()).unwrap(),
        }
    }

    fn kid(&self, algorithm: Algorithm) -> String {
        format!("{}-{}", algorithm.as_str(), self.generation)
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::ES256 => self.es256.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::RS256 => {
                let mut signature = vec![0; self.rs256.public().modulus_len()];
                self.rs256
                    .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Algorithm::EdDSA => self.eddsa.sign(message).as_ref().to_vec(),
        }
    }

    /// The JWK Set (RFC 7517, RFC 7518, RFC 8037).
    fn public(&self) -> Value {
        let point = self.es256.public_key().as_ref();
        // An uncompressed point: a four, then both coordinates (SEC 1, section 2.3.3).
        let (x, y) = point.get(1..).unwrap().split_at(32);
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rs256.public());
        let keys = [
            (
                Algorithm::ES256,
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }),
            ),
            (
                Algorithm::RS256,
                json!({ "kty": "RSA", "n": encode(rsa.n), "e": encode(rsa.e) }),
            ),
            (
                Algorithm::EdDSA,
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(self.eddsa.public_key()) }),
            ),
        ];
        let keys: Vec<Value> = keys
            .into_iter()
            .map(|(algorithm, mut key)| {
                let about = key.as_object_mut().unwrap();
                about.insert("use".into(), json!("sig"));
                about.insert("alg".into(), json!(algorithm.as_str()));
                about.insert("kid".into(), json!(self.kid(algorithm)));
                key
            })
            .collect();
        json!({ "keys": keys })
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
