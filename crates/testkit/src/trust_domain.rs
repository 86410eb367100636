//! A SPIFFE trust domain: a key and an authority, the bundle that publishes them, and the SVIDs that they sign.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::CertificateParams;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::Authority;
use crate::certificates::Certified;

/// A SPIFFE trust domain with one key for JWT-SVIDs, and one authority for X.509-SVIDs.
#[derive(Debug)]
pub struct TrustDomain {
    name: String,
    key: EcdsaKeyPair,
    authority: Authority,
    generation: usize,
}

impl TrustDomain {
    /// Makes one. No two have the same key, whatever their names.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: generate(),
            authority: Authority::new(name),
            generation: 1,
        }
    }

    /// Throws its key and its authority away and makes new ones, under another `kid`.
    pub fn rotate(&mut self) {
        self.key = generate();
        self.authority = Authority::new(&self.name);
        self.generation += 1;
    }

    /// The SPIFFE ID of a workload in it.
    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}/{path}", self.name)
    }

    /// Its bundle, with an authority for X.509-SVIDs beside the key for JWT-SVIDs.
    pub fn bundle(&self) -> Value {
        let mut authority = self.jwk("x509-svid");
        let certificate = json!([STANDARD.encode(self.authority.der())]);
        let members = authority.as_object_mut().unwrap();
        members.insert("x5c".to_owned(), certificate);
        let keys = [authority, self.jwk("jwt-svid")];
        json!({ "keys": keys, "spiffe_sequence": self.generation, "spiffe_refresh_hint": 1 })
    }

    /// The bundle as a Workload API gives it: keys for JWT-SVIDs, and nothing more.
    pub fn jwt_bundle(&self) -> Value {
        json!({ "keys": [self.jwk("jwt-svid")] })
    }

    /// The certificates of its authorities, DER, as a Workload API gives them.
    pub fn x509_bundle(&self) -> Vec<u8> {
        self.authority.der().to_vec()
    }

    /// The X.509-SVID of a workload in it.
    pub fn x509_svid(&self, path: &str) -> Certified {
        self.x509_svid_with(path, |_| {})
    }

    /// The X.509-SVID of a workload in it, but for what is changed of it.
    pub fn x509_svid_with(
        &self,
        path: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certified {
        self.authority.svid(&self.id(path), change)
    }

    /// Claims of an SVID that are in order, for five minutes.
    pub fn claims(&self, path: &str, audience: &str) -> Value {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        json!({ "sub": self.id(path), "aud": [audience], "iat": now, "exp": now + 300 })
    }

    /// An SVID of a workload in it.
    pub fn svid(&self, path: &str, audience: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": self.kid(), "typ": "JWT" });
        self.sign(&header, &self.claims(path, audience))
    }

    /// Signs any claims under any header, right or wrong.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", encode(signature.unwrap()))
    }

    /// The `kid` of its key.
    pub fn kid(&self) -> String {
        format!("{}-{}", self.name, self.generation)
    }

    fn jwk(&self, usage: &str) -> Value {
        // An uncompressed point: a four, then both coordinates (SEC 1, section 2.3.3).
        let (x, y) = self
            .key
            .public_key()
            .as_ref()
            .get(1..)
            .unwrap()
            .split_at(32);
        json!({ "kty": "EC", "use": usage, "kid": self.kid(), "crv": "P-256", "x": encode(x), "y": encode(y) })
    }
}

fn generate() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
