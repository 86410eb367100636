//! Who vouches for a bundle: `.signatures.json`, one JWT over the names and digests of all files.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{self, SHA256, SHA384, SHA512, SHA512_256};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::canonical::canonical;
use super::key::{PublicKey, SigningKey};
use super::{BadBundle, Files, MANIFEST, SIGNATURES};

/// What a signature has to be.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Whose signature.
    pub key: PublicKey,
    /// The `kid` that the signature must name; any, unless given.
    pub key_id: Option<String>,
    /// The scope that the signature must be of; none, unless given.
    pub scope: Option<String>,
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, section 4.1.11); none is.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize, Serialize)]
struct Payload {
    files: Vec<Listed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Where older signers put the key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Listed {
    name: String,
    hash: String,
    algorithm: String,
}

impl Verification {
    /// The signature holds, and lists exactly these files as they are.
    pub(super) fn verify(&self, signatures: &[u8], files: &Files) -> Result<(), BadBundle> {
        let signatures: Signatures = serde_json::from_slice(signatures)
            .map_err(|error| BadBundle::Malformed(SIGNATURES.to_owned(), error.to_string()))?;
        let [token] = signatures.signatures.as_slice() else {
            return Err(BadBundle::Signature("not exactly one token".to_owned()));
        };
        self.payload(token)
            .map_err(BadBundle::Signature)
            .and_then(|payload| covers(payload, files).map_err(BadBundle::Contents))
    }

    /// What the token says, after its signature was found good.
    fn payload(&self, token: &str) -> Result<Payload, String> {
        let malformed = || "the token is not a compact JWS".to_owned();
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|error| error.to_string())?;
        let algorithm = self.key.algorithm().name();
        if header.alg != algorithm {
            return Err(format!("its algorithm is not the key's, {algorithm}"));
        }
        if header.crit.is_some() {
            return Err("it has critical extensions".to_owned());
        }
        if !self.key.verifies(message.as_bytes(), &decode(signature)?) {
            return Err("it was not made with this key".to_owned());
        }
        let payload: Payload =
            serde_json::from_slice(&decode(payload)?).map_err(|error| error.to_string())?;
        let named = header.kid.as_ref().or(payload.keyid.as_ref());
        if self.key_id.is_some() && named != self.key_id.as_ref() {
            return Err("it names another key".to_owned());
        }
        if payload.scope.as_deref().unwrap_or_default() != self.scope.as_deref().unwrap_or_default()
        {
            return Err("it is of another scope".to_owned());
        }
        Ok(payload)
    }
}

fn covers(payload: Payload, files: &Files) -> Result<(), String> {
    let mut listed = BTreeMap::new();
    for file in payload.files {
        let name = file.name.strip_prefix('/').unwrap_or(&file.name).to_owned();
        if listed.insert(name, file).is_some() {
            return Err("a file is listed twice".to_owned());
        }
    }
    for (name, bytes) in files {
        let file = listed
            .remove(name)
            .ok_or_else(|| format!("`{name}` is not listed"))?;
        let hash = hash(name, bytes, &file.algorithm)?;
        if !hash.eq_ignore_ascii_case(&file.hash) {
            return Err(format!("`{name}` has another digest"));
        }
    }
    match listed.keys().next() {
        Some(name) => Err(format!("`{name}` is listed but missing")),
        None => Ok(()),
    }
}

/// The digest of a file; that of a structured file is over its content, not its spelling.
fn hash(name: &str, bytes: &[u8], algorithm: &str) -> Result<String, String> {
    let algorithm = match algorithm {
        "SHA-256" => &SHA256,
        "SHA-384" => &SHA384,
        "SHA-512" => &SHA512,
        "SHA-512-256" => &SHA512_256,
        _ => return Err(format!("`{name}` has a digest of no accepted algorithm")),
    };
    let of_file = |error: &dyn ToString| format!("`{name}`: {}", error.to_string());
    let text = || std::str::from_utf8(bytes).map_err(|error| of_file(&error));
    let hashed = match name.rsplit('/').next() {
        Some("data.json" | MANIFEST) => canonical(text()?).map_err(|error| of_file(&error))?,
        Some("data.yaml" | "data.yml") => {
            let value: serde_json::Value =
                serde_yaml::from_str(text()?).map_err(|error| of_file(&error))?;
            canonical(&value.to_string()).map_err(|error| of_file(&error))?
        }
        _ => bytes.to_vec(),
    };
    Ok(hex::encode(digest::digest(algorithm, &hashed)))
}

/// `.signatures.json` for these files.
pub(super) fn sign(files: &Files, key: &SigningKey) -> Result<Vec<u8>, BadBundle> {
    let listed = files.iter().map(|(name, bytes)| {
        let algorithm = "SHA-256".to_owned();
        Ok(Listed {
            hash: hash(name, bytes, &algorithm)?,
            name: name.clone(),
            algorithm,
        })
    });
    let payload = Payload {
        files: listed
            .collect::<Result<_, _>>()
            .map_err(BadBundle::Contents)?,
        scope: key.scope.clone(),
        keyid: None,
    };
    let mut header = json!({ "alg": key.algorithm().name(), "typ": "JWT" });
    if let (Some(id), Some(header)) = (&key.id, header.as_object_mut()) {
        header.insert("kid".to_owned(), json!(id));
    }
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(json!(payload).to_string()),
    );
    let signature = key
        .sign(message.as_bytes())
        .map_err(|_| BadBundle::Signature("the key can't sign".to_owned()))?;
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    Ok(json!({ "signatures": [token] }).to_string().into_bytes())
}
