//! The cryptography of tokens and of TLS, all of it by `ring`.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result, new_error};
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self as ring_signature, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair, UnparsedPublicKey,
};
use signature::{Signer, Verifier};

/// Makes `ring` the one crypto of jsonwebtoken and of rustls in this process; once is enough.
///
/// Whoever was first stays: pingora installs `ring` for rustls too, and jsonwebtoken is built
/// without any crypto of its own.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::warn!("another crypto provider for tokens was installed first");
        }
        // The error is the provider that was there first.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// Signs with ES256, RS256, PS256 and `EdDSA`, verifies with these and ES384, RS and PS. There is no HMAC, so that no
/// public key can ever be taken for a shared secret.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest,
    },
};

fn unsupported() -> Error {
    new_error(ErrorKind::UnsupportedAlgorithm)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is jsonwebtoken's"
)]
fn compute_digest(data: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &ring::digest::SHA256,
        ThumbprintHash::SHA384 => &ring::digest::SHA384,
        ThumbprintHash::SHA512 => &ring::digest::SHA512,
        _ => return Err(unsupported()),
    };
    Ok(ring::digest::digest(algorithm, data).as_ref().to_vec())
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != family(*algorithm)? {
        return Err(new_error(ErrorKind::InvalidKeyFormat));
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

fn family(algorithm: Algorithm) -> Result<AlgorithmFamily> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match algorithm {
        ES256 | ES384 => Ok(AlgorithmFamily::Ec),
        EdDSA => Ok(AlgorithmFamily::Ed),
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => Ok(AlgorithmFamily::Rsa),
        _ => Err(unsupported()),
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        let verified = match self.key.kind() {
            DecodingKeyKind::SecretOrDer(point) => {
                let algorithm: &dyn ring_signature::VerificationAlgorithm = match self.algorithm {
                    Algorithm::ES256 => &ring_signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &ring_signature::ECDSA_P384_SHA384_FIXED,
                    Algorithm::EdDSA => &ring_signature::ED25519,
                    _ => return Err(signature::Error::new()),
                };
                UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let parameters = match self.algorithm {
                    Algorithm::RS256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::RS384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::RS512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::PS256 => &ring_signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::PS384 => &ring_signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::PS512 => &ring_signature::RSA_PSS_2048_8192_SHA512,
                    _ => return Err(signature::Error::new()),
                };
                ring_signature::RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
            }
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match (algorithm, key.family()) {
        (Algorithm::ES256, AlgorithmFamily::Ec) => Ok(Box::new(Es256Signer(p256(key.as_bytes())?))),
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            Ok(Box::new(EdDsaSigner(ed25519(key.as_bytes())?)))
        }
        (Algorithm::RS256 | Algorithm::PS256, AlgorithmFamily::Rsa) => Ok(Box::new(RsaSigner {
            algorithm: *algorithm,
            pair: rsa(key.as_bytes())?,
        })),
        _ => Err(unsupported()),
    }
}

/// Reads a P-256 key pair from PKCS#8 DER.
pub(crate) fn p256(der: &[u8]) -> Result<EcdsaKeyPair> {
    let algorithm = &ring_signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new())
        .map_err(|_| new_error(ErrorKind::InvalidEcdsaKey))
}

/// Reads an Ed25519 key pair from PKCS#8 DER.
///
/// OpenSSL writes version 1, which has no public key to check the private one against.
pub(crate) fn ed25519(der: &[u8]) -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
        .map_err(|_| new_error(ErrorKind::InvalidEddsaKey))
}

/// Reads an RSA key pair of at least 2048 bits from PKCS#1 DER.
pub(crate) fn rsa(der: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_der(der).map_err(|_| new_error(ErrorKind::InvalidKeyFormat))
}

struct Es256Signer(EcdsaKeyPair);

impl Signer<Vec<u8>> for Es256Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        Ok(signature
            .map_err(|_| signature::Error::new())?
            .as_ref()
            .to_vec())
    }
}

impl JwtSigner for Es256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

struct RsaSigner {
    algorithm: Algorithm,
    pair: RsaKeyPair,
}

impl Signer<Vec<u8>> for RsaSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let padding: &dyn ring_signature::RsaEncoding = match self.algorithm {
            Algorithm::RS256 => &ring_signature::RSA_PKCS1_SHA256,
            Algorithm::PS256 => &ring_signature::RSA_PSS_SHA256,
            _ => return Err(signature::Error::new()),
        };
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let signed = self
            .pair
            .sign(padding, &SystemRandom::new(), message, &mut signature);
        signed.map_err(|_| signature::Error::new())?;
        Ok(signature)
    }
}

impl JwtSigner for RsaSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct EdDsaSigner(Ed25519KeyPair);

impl Signer<Vec<u8>> for EdDsaSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for EdDsaSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto};

    use super::install;

    #[test]
    fn nothing_is_signed_with_a_shared_secret() {
        install();
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(b"secret");
            assert!(jsonwebtoken::encode(&Header::new(algorithm), &(), &key).is_err());
        }
    }

    #[test]
    fn nothing_is_verified_with_a_shared_secret() {
        install();
        let key = DecodingKey::from_secret(b"secret");
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(crypto::verify("", b"", &key, algorithm).is_err());
        }
    }

    #[test]
    fn a_key_verifies_only_with_algorithms_of_its_family() {
        install();
        let keys = [
            DecodingKey::from_ec_der(b"x"),
            DecodingKey::from_ed_der(b"x"),
            DecodingKey::from_rsa_der(b"x"),
        ];
        for (key, others) in keys
            .iter()
            .zip([Algorithm::EdDSA, Algorithm::RS256, Algorithm::ES256])
        {
            assert!(crypto::verify("", b"", key, others).is_err());
        }
    }

    #[test]
    fn a_malformed_key_verifies_nothing() {
        install();
        let malformed = [
            (DecodingKey::from_ec_der(b""), Algorithm::ES256),
            (DecodingKey::from_ec_der(&[4; 65]), Algorithm::ES256),
            (DecodingKey::from_ed_der(&[0; 31]), Algorithm::EdDSA),
            (DecodingKey::from_rsa_der(b"x"), Algorithm::RS256),
            (
                DecodingKey::from_rsa_raw_components(b"", b""),
                Algorithm::PS256,
            ),
        ];
        for (key, algorithm) in malformed {
            assert!(matches!(
                crypto::verify("AAAA", b"message", &key, algorithm),
                Ok(false)
            ));
        }
    }
}
