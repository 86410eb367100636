//! `io.jwt.decode`: what a token says, which proves nothing; `io.jwt.verify_*`: whether it was signed with a key.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use regorus::Value;

use super::keys::{Keys, Signed};
use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "io.jwt.decode",
        arguments: 1,
        function: decode,
    },
    Builtin {
        name: "io.jwt.verify_hs256",
        arguments: 2,
        function: |arguments| with_secret("HS256", arguments),
    },
    Builtin {
        name: "io.jwt.verify_hs384",
        arguments: 2,
        function: |arguments| with_secret("HS384", arguments),
    },
    Builtin {
        name: "io.jwt.verify_hs512",
        arguments: 2,
        function: |arguments| with_secret("HS512", arguments),
    },
    Builtin {
        name: "io.jwt.verify_rs256",
        arguments: 2,
        function: |arguments| with_key("RS256", arguments),
    },
    Builtin {
        name: "io.jwt.verify_rs384",
        arguments: 2,
        function: |arguments| with_key("RS384", arguments),
    },
    Builtin {
        name: "io.jwt.verify_rs512",
        arguments: 2,
        function: |arguments| with_key("RS512", arguments),
    },
    Builtin {
        name: "io.jwt.verify_ps256",
        arguments: 2,
        function: |arguments| with_key("PS256", arguments),
    },
    Builtin {
        name: "io.jwt.verify_ps384",
        arguments: 2,
        function: |arguments| with_key("PS384", arguments),
    },
    Builtin {
        name: "io.jwt.verify_ps512",
        arguments: 2,
        function: |arguments| with_key("PS512", arguments),
    },
    Builtin {
        name: "io.jwt.verify_es256",
        arguments: 2,
        function: |arguments| with_key("ES256", arguments),
    },
    Builtin {
        name: "io.jwt.verify_es384",
        arguments: 2,
        function: |arguments| with_key("ES384", arguments),
    },
    Builtin {
        name: "io.jwt.verify_eddsa",
        arguments: 2,
        function: |arguments| with_key("EdDSA", arguments),
    },
];

fn decode(arguments: &[Value]) -> anyhow::Result<Value> {
    let token = Token::new(text(arguments, 0)?)?;
    let payload = object(&token.payload()?)?;
    let signature = hex::encode(token.signature()?);
    Ok(Value::from(vec![
        token.header,
        payload,
        Value::from(signature),
    ]))
}

fn with_secret(algorithm: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    let keys = Keys::secret(text(arguments, 1)?)?;
    verify(algorithm, text(arguments, 0)?, &keys)
}

fn with_key(algorithm: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    let keys = Keys::new(text(arguments, 1)?)?;
    verify(algorithm, text(arguments, 0)?, &keys)
}

/// Unlike OPA it asks that the token names the same algorithm.
fn verify(algorithm: &str, token: &str, keys: &Keys) -> anyhow::Result<Value> {
    let token = Token::new(token)?;
    let same = token.says("alg")? == Some(algorithm);
    Ok(Value::from(token.is_signed(keys)? && same))
}

/// A compact JWS (RFC 7515 7.1). It proves nothing.
pub(super) struct Token<'a> {
    pub(super) header: Value,
    /// What is signed: the header and the payload as they are written.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    pub(super) fn new(text: &'a str) -> anyhow::Result<Self> {
        let parts = text.rsplit_once('.').and_then(|(message, signature)| {
            let (header, payload) = message.split_once('.')?;
            (!payload.contains('.')).then_some((message, header, payload, signature))
        });
        let Some((message, header, payload, signature)) = parts else {
            anyhow::bail!("a token has three parts");
        };
        let header = object(&bytes(header)?)?;
        anyhow::ensure!(
            header["enc"] == Value::Undefined,
            "an encrypted token can't be read"
        );
        Ok(Self {
            header,
            message,
            payload,
            signature,
        })
    }

    /// A parameter of the header, which must be a text if it is there.
    pub(super) fn says(&self, parameter: &str) -> anyhow::Result<Option<&str>> {
        match &self.header[parameter] {
            Value::Undefined => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => anyhow::bail!("`{parameter}` of a header must be a string"),
        }
    }

    /// Whether one of these keys signed it, with the algorithm that it names. Extensions that must be understood
    /// (RFC 7515 4.1.11) are not: with them it counts as not signed. So it does with a signature in any spelling but
    /// the one of RFC 4648 3.5: the text of a token can't be changed.
    pub(super) fn is_signed(&self, keys: &Keys) -> anyhow::Result<bool> {
        if self.signature.ends_with('=') {
            return Ok(false);
        }
        let signature = match self.signature() {
            Err(DecodeError::InvalidLastSymbol { .. }) => return Ok(false),
            signature => signature?,
        };
        let id = self.says("kid")?;
        let Some(algorithm) = self.says("alg")? else {
            return Ok(false);
        };
        let signed = Signed {
            algorithm,
            message: self.message,
            signature: &signature,
        };
        Ok(self.header["crit"] == Value::Undefined && keys.verify(id, &signed))
    }

    pub(super) fn payload(&self) -> Result<Vec<u8>, DecodeError> {
        bytes(self.payload)
    }

    fn signature(&self) -> Result<Vec<u8>, DecodeError> {
        bytes(self.signature)
    }
}

fn bytes(part: &str) -> Result<Vec<u8>, DecodeError> {
    URL_SAFE_NO_PAD.decode(part.trim_end_matches('='))
}

/// What a part of a token says.
pub(super) fn object(part: &[u8]) -> anyhow::Result<Value> {
    let value = Value::from_json_str(std::str::from_utf8(part)?)?;
    anyhow::ensure!(value.as_object().is_ok(), "a part of a token is an object");
    Ok(value)
}

#[cfg(test)]
pub(super) mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key};
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
    };
    use serde_json::json;

    use super::*;
    use crate::builtins::find;

    const RSA: &str = include_str!("../bundle/testdata/rs256.key");
    const P256: &str = include_str!("../bundle/testdata/es256.key");
    const P384: &str = include_str!("testdata/es384.key");
    const EDWARDS: &str = include_str!("../bundle/testdata/eddsa.key");

    const RSA_PEM: &str = include_str!("../bundle/testdata/rs256.pub");
    const P256_PEM: &str = include_str!("../bundle/testdata/es256.pub");
    const P384_PEM: &str = include_str!("testdata/es384.pub");
    const EDWARDS_PEM: &str = include_str!("../bundle/testdata/eddsa.pub");

    const RSA_CERTIFICATE: &str = include_str!("testdata/rs256.crt");
    const P256_CERTIFICATE: &str = include_str!("testdata/es256.crt");

    fn der(pem: &str) -> Vec<u8> {
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        STANDARD.decode(lines.collect::<String>()).unwrap()
    }

    fn rsa() -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(&der(RSA)).unwrap()
    }

    fn p256() -> EcdsaKeyPair {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der(P256), &random).unwrap()
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token, signed as its header says; HMAC with the secret `secret`.
    pub(in crate::builtins) fn token(header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = sign(header, message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn sign(header: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let hmac = |algorithm| {
            let key = Key::new(algorithm, b"secret");
            ring::hmac::sign(&key, message).as_ref().to_vec()
        };
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; rsa().public().modulus_len()];
            let signed = rsa().sign(encoding, &random, message, &mut signature);
            signed.unwrap();
            signature
        };
        let header: serde_json::Value = serde_json::from_str(header).unwrap();
        match header["alg"].as_str().unwrap_or_default() {
            "HS256" => hmac(HMAC_SHA256),
            "HS384" => hmac(HMAC_SHA384),
            "HS512" => hmac(HMAC_SHA512),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "ES256" => p256().sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => {
                let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
                let key = EcdsaKeyPair::from_pkcs8(algorithm, &der(P384), &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            "EdDSA" => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(EDWARDS)).unwrap();
                key.sign(message).as_ref().to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn header(algorithm: &str) -> String {
        json!({ "alg": algorithm }).to_string()
    }

    fn rsa_jwk() -> serde_json::Value {
        let public = signature_key(&rsa());
        json!({ "kty": "RSA", "kid": "r", "n": encode(&public.n), "e": encode(&public.e) })
    }

    fn signature_key(pair: &RsaKeyPair) -> ring::signature::RsaPublicKeyComponents<Vec<u8>> {
        pair.public().into()
    }

    fn p256_jwk() -> serde_json::Value {
        let pair = p256();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "kid": "e", "x": encode(x), "y": encode(y) })
    }

    fn call(name: &str, token: &str, key: &str) -> Option<Value> {
        let builtin = find(name).unwrap();
        (builtin.function)(&[Value::from(token), Value::from(key)]).ok()
    }

    /// What a builtin says of a token with this header, and of the same one with another payload.
    #[track_caller]
    fn check(name: &str, header: &str, key: &str, expect: bool) {
        let token = token(header, r#"{"sub":"a"}"#);
        assert_eq!(call(name, &token, key), Some(Value::from(expect)));
        let forged = token.replacen(&encode(r#"{"sub":"a"}"#), &encode(r#"{"sub":"b"}"#), 1);
        assert_eq!(call(name, &forged, key), Some(Value::from(false)));
    }

    #[track_caller]
    fn check_fails(name: &str, token: &str, key: &str) {
        assert_eq!(call(name, token, key), None);
    }

    #[test]
    fn secrets_verify() {
        check("io.jwt.verify_hs256", &header("HS256"), "secret", true);
        check("io.jwt.verify_hs384", &header("HS384"), "secret", true);
        check("io.jwt.verify_hs512", &header("HS512"), "secret", true);
    }
    #[test]
    fn another_secret_does_not() {
        check("io.jwt.verify_hs256", &header("HS256"), "secrets", false);
    }
    #[test]
    fn public_keys_verify() {
        check("io.jwt.verify_rs256", &header("RS256"), RSA_PEM, true);
        check("io.jwt.verify_rs512", &header("RS512"), RSA_PEM, true);
        check("io.jwt.verify_ps256", &header("PS256"), RSA_PEM, true);
        check("io.jwt.verify_ps384", &header("PS384"), RSA_PEM, true);
        check("io.jwt.verify_es256", &header("ES256"), P256_PEM, true);
        check("io.jwt.verify_es384", &header("ES384"), P384_PEM, true);
        check("io.jwt.verify_eddsa", &header("EdDSA"), EDWARDS_PEM, true);
    }
    #[test]
    fn certificates_verify() {
        check(
            "io.jwt.verify_rs256",
            &header("RS256"),
            RSA_CERTIFICATE,
            true,
        );
        check(
            "io.jwt.verify_es256",
            &header("ES256"),
            P256_CERTIFICATE,
            true,
        );
    }
    #[test]
    fn a_jwk_verifies() {
        let (rsa, p256) = (rsa_jwk().to_string(), p256_jwk().to_string());
        check("io.jwt.verify_ps256", &header("PS256"), &rsa, true);
        check("io.jwt.verify_es256", &header("ES256"), &p256, true);
    }
    #[test]
    fn any_key_of_a_set_verifies() {
        let set = json!({ "keys": [p256_jwk(), rsa_jwk()] }).to_string();
        check("io.jwt.verify_rs256", &header("RS256"), &set, true);
        check("io.jwt.verify_es256", &header("ES256"), &set, true);
    }
    #[test]
    fn a_named_key_verifies_alone() {
        let set = json!({ "keys": [p256_jwk(), rsa_jwk()] }).to_string();
        let named = |id: &str| json!({ "alg": "RS256", "kid": id }).to_string();
        check("io.jwt.verify_rs256", &named("r"), &set, true);
        check("io.jwt.verify_rs256", &named("e"), &set, false);
        check("io.jwt.verify_rs256", &named("another"), &set, true);
    }
    #[test]
    fn a_key_for_one_algorithm_verifies_no_other() {
        let mut jwk = rsa_jwk();
        jwk["alg"] = json!("RS256");
        check(
            "io.jwt.verify_rs256",
            &header("RS256"),
            &jwk.to_string(),
            true,
        );
        check(
            "io.jwt.verify_ps256",
            &header("PS256"),
            &jwk.to_string(),
            false,
        );
    }
    #[test]
    fn a_key_of_a_curve_that_there_is_not_verifies_nothing_and_alone_fails() {
        let other = json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" });
        let set = json!({ "keys": [other, p256_jwk()] }).to_string();
        check("io.jwt.verify_es256", &header("ES256"), &set, true);
        check_fails(
            "io.jwt.verify_es256",
            &token(&header("ES256"), "{}"),
            &other.to_string(),
        );
    }
    #[test]
    fn the_name_of_the_algorithm_counts() {
        check("io.jwt.verify_rs256", &header("PS256"), RSA_PEM, false);
        check("io.jwt.verify_hs256", &header("HS512"), "secret", false);
    }
    #[test]
    fn none_verifies_nothing() {
        check("io.jwt.verify_hs256", &header("none"), "secret", false);
        check("io.jwt.verify_rs256", &header("none"), RSA_PEM, false);
        check("io.jwt.verify_rs256", r#"{"typ":"JWT"}"#, RSA_PEM, false);
    }
    /// What took the key of the other side for a secret.
    #[test]
    fn a_public_key_is_no_secret() {
        let message = format!("{}.{}", encode(header("HS256")), encode("{}"));
        let key = Key::new(HMAC_SHA256, RSA_PEM.as_bytes());
        let tag = encode(ring::hmac::sign(&key, message.as_bytes()));
        let token = format!("{message}.{tag}");
        let said = call("io.jwt.verify_rs256", &token, RSA_PEM);
        assert_eq!(said, Some(Value::from(false)));
    }
    #[test]
    fn another_spelling_of_a_signature_does_not_verify() {
        let token = token(&header("HS512"), "{}");
        // The last of 86 characters has four bits too many.
        let (rest, last) = token.split_at(token.len() - 1);
        let next = char::from(last.as_bytes()[0] + 1);
        let said = call("io.jwt.verify_hs512", &format!("{rest}{next}"), "secret");
        assert_eq!(said, Some(Value::from(false)));
    }
    #[test]
    fn padding_does_not_belong_to_a_signature() {
        let token = token(&header("HS256"), "{}");
        for padding in ["=", "=="] {
            let said = call(
                "io.jwt.verify_hs256",
                &format!("{token}{padding}"),
                "secret",
            );
            assert_eq!(said, Some(Value::from(false)));
        }
    }
    #[test]
    fn extensions_that_must_be_understood_are_not() {
        let header = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
        check("io.jwt.verify_hs256", &header.to_string(), "secret", false);
    }
    #[test]
    fn what_is_no_token_fails() {
        for broken in [
            "",
            ".",
            "..",
            "a.b.c",
            "e30.e30",
            "e30.e30.e30.e30",
            "W10.e30.",
        ] {
            check_fails("io.jwt.verify_hs256", broken, "secret");
        }
    }
    #[test]
    fn an_empty_secret_fails() {
        check_fails("io.jwt.verify_hs256", &token(&header("HS256"), "{}"), "");
    }
    #[test]
    fn what_is_no_key_fails() {
        let token = token(&header("RS256"), "{}");
        let more = format!("{RSA_PEM}{RSA_PEM}");
        let broken = RSA_CERTIFICATE.replace("MII", "MIJ");
        for key in ["", "{}", "[]", "-----BEGIN ", RSA, &more, &broken] {
            check_fails("io.jwt.verify_rs256", &token, key);
        }
    }
    #[test]
    fn a_certificate_cut_anywhere_is_no_key() {
        let whole = der(RSA_CERTIFICATE);
        for length in 0..whole.len() {
            let cut = STANDARD.encode(&whole[..length]);
            let pem = format!("-----BEGIN CERTIFICATE-----\n{cut}\n-----END CERTIFICATE-----\n");
            assert!(Keys::new(&pem).is_err());
        }
    }
    #[test]
    fn a_set_has_a_limit() {
        let key = p256_jwk();
        let set = |count| json!({ "keys": vec![&key; count] }).to_string();
        assert!(Keys::new(&set(64)).is_ok());
        assert!(Keys::new(&set(65)).is_err());
    }
}
