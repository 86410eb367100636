//! X.509-SVIDs of SPIFFE trust domains: what is believed, and what must not be (SPIFFE's X509-SVID, sections 2 to 6).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method as HttpMethod};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use serde_json::{Value, json};

use super::idp::Answer;
use super::jwt_svid::{AGENT, EAGER, at, claims, domain};
use super::signer::Signer;
use super::{Idp, bearer, expect, head, run, task, tokens};
use crate::{
    Agent, CertificateConfig, CertificateRule, ClientTrust, Config, DpopConfig, Identity, KeyKind,
    Method, Presented, SpiffeConfig, Svid, SvidRule, Transport, TrustDomainConfig, Unauthenticated,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let params = authority_params(change);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn authority_params(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    params
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// The SVID of [`AGENT`], but for what is changed of it.
fn svid(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(AGENT)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, issuer).unwrap().into()
}

/// An authority as a bundle has it.
fn published(issuer: &Issuer) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(issuer.der())]})
}

fn believer(svids: &[Svid], trust_domains: Vec<TrustDomainConfig>) -> Identity {
    let spiffe = Some(SpiffeConfig {
        audience: "remit".to_owned(),
        svids: svids.to_vec(),
        trust_domains,
    });
    let config = Config {
        issuers: Vec::new(),
        transaction_issuers: Vec::new(),
        tokens: tokens(KeyKind::P256),
        dpop: DpopConfig::default(),
        certificates: None,
        clusters: Vec::new(),
        wit_issuers: Vec::new(),
        spiffe,
    };
    Identity::with_pace(config, None, EAGER)
}

/// As it comes out of a handshake.
fn over(chain: &[CertificateDer<'_>]) -> Transport {
    let trust = ClientTrust::new(Vec::new(), CertificateRule::Optional, SvidRule::Taken).unwrap();
    let (first, others) = chain.split_first().unwrap();
    trust
        .verify_client_cert(first, others, UnixTime::now())
        .unwrap();
    Transport::Tls {
        client: Some(Arc::new(trust.read(chain).unwrap())),
    }
}

async fn ask(
    identity: &Identity,
    headers: &HeaderMap,
    transport: &Transport,
) -> Result<Agent, Unauthenticated> {
    let presented = Presented {
        headers,
        method: &HttpMethod::GET,
        host: "gateway.example",
        port: None,
        path: "/",
        query_token: None,
        transport,
    };
    identity.authenticate(&presented).await
}

/// What comes of a chain whose last certificate is of an authority, where `example.org` publishes `keys`.
#[track_caller]
fn chain(keys: &[Value], chain: &[CertificateDer<'_>], answer: &str) {
    let result = run(async {
        let bundle = Idp::start(keys).await;
        let identity = believer(&[Svid::X509], vec![domain("example.org", at(&bundle))]);
        ask(&identity, &HeaderMap::new(), &over(chain)).await
    });
    expect(&result, answer);
}

/// What comes of an SVID of an authority that is published, but for what is changed of it.
#[track_caller]
fn changed(change: impl FnOnce(&mut CertificateParams), answer: &str) {
    let issuer = authority(|_| {});
    let svid = svid(&issuer, change);
    chain(&[published(&issuer)], &[svid], answer);
}

#[test]
fn an_svid_names_its_agent() {
    run(async {
        let issuer = authority(|_| {});
        let bundle = Idp::start(&[published(&issuer)]).await;
        let identity = believer(&[Svid::X509], vec![domain("example.org", at(&bundle))]);
        let transport = over(&[svid(&issuer, |_| {})]);
        for _ in 0..2 {
            let agent = ask(&identity, &HeaderMap::new(), &transport).await.unwrap();
            assert_eq!(agent.id().as_str(), AGENT);
            assert_eq!(agent.method(), Method::X509Svid);
            assert_eq!(agent.method().as_str(), "x509_svid");
            assert_eq!(agent.issuer(), "spiffe://example.org");
            assert_eq!(agent.claims()["san_uri"], AGENT);
        }
        assert_eq!(bundle.asked(), 1);
    });
}
#[test]
fn other_names_and_uses_make_no_difference() {
    changed(
        |params| {
            let host = "triage.example".try_into().unwrap();
            params.subject_alt_names.push(SanType::DnsName(host));
        },
        AGENT,
    );
    changed(
        |params| {
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        },
        AGENT,
    );
}
#[test]
fn b6_an_svid_has_one_uri() {
    for other in ["spiffe://example.org/b", "https://example.org/b"] {
        let more = "!more than one URI";
        changed(|params| params.subject_alt_names.push(uri(other)), more);
        changed(
            |params| params.subject_alt_names.insert(0, uri(other)),
            more,
        );
    }
}
#[test]
fn b6_a_malformed_spiffe_id_is_refused() {
    for id in [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/a//b",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/%61",
        "spiffe://example.org/a?b",
        "SPIFFE://example.org/a",
        "spiffe://EXAMPLE.org/a",
    ] {
        let names = |params: &mut CertificateParams| params.subject_alt_names = vec![uri(id)];
        changed(names, "!no SPIFFE ID of a workload");
    }
}
#[test]
fn b6_an_authority_is_no_workload() {
    let is_ca = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    changed(is_ca, "!that of an authority");
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        changed(|params| params.key_usages.push(usage), "!key usage");
    }
}
#[test]
fn b6_key_usage_is_there_critical_and_for_signatures() {
    changed(|params| params.key_usages.clear(), "!no key usage");
    let agreement = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    };
    changed(agreement, "!key usage");
    let not_critical = |params: &mut CertificateParams| {
        params.key_usages.clear();
        // A bit string whose first bit is set: digitalSignature (RFC 5280, section 4.2.1.3).
        let usage = vec![3, 2, 7, 0x80];
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 15], usage);
        params.custom_extensions.push(extension);
    };
    changed(not_critical, "!key usage");
}
#[test]
fn b6_an_svid_that_is_for_servers_alone_is_refused() {
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    changed(server, "!not of an authority");
}
#[test]
fn b2_an_svid_has_its_time() {
    changed(
        |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        },
        "!expired",
    );
    let later = |params: &mut CertificateParams| params.not_before = date_time_ymd(2099, 1, 1);
    changed(later, "!not valid yet");
}
#[test]
fn b3_an_svid_that_another_key_signed_is_refused() {
    // By the names alone it would be the same authority.
    let (issuer, other) = (authority(|_| {}), authority(|_| {}));
    let forged = svid(&other, |_| {});
    chain(
        &[published(&issuer)],
        std::slice::from_ref(&forged),
        "!not of an authority",
    );
    let with_root = [forged, other.der().clone()];
    chain(&[published(&issuer)], &with_root, "!not of an authority");
    // Nor does it sign itself.
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(AGENT)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let itself = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    chain(
        &[published(&issuer)],
        &[itself.into()],
        "!not of an authority",
    );
}
#[test]
fn b3_a_flipped_bit_is_refused() {
    let issuer = authority(|_| {});
    let svid = svid(&issuer, |_| {});
    let mut broken = svid.to_vec();
    let last = broken.last_mut().unwrap();
    *last ^= 1;
    chain(
        &[published(&issuer)],
        &[broken.into()],
        "!not of an authority",
    );
}
#[test]
fn a_chain_leads_to_an_authority() {
    let root = authority(|_| {});
    let middle = |change: fn(&mut CertificateParams)| {
        let params = authority_params(change);
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap()
    };
    let keys = [published(&root)];
    let through = |middle: &Issuer| [svid(middle, |_| {}), middle.der().clone()];
    chain(&keys, &through(&middle(|_| {})), AGENT);
    let named = middle(|params| params.subject_alt_names = vec![uri("spiffe://example.org")]);
    chain(&keys, &through(&named), AGENT);
    // Without the one in between it leads nowhere.
    let alone = svid(&named, |_| {});
    chain(&keys, &[alone], "!not of an authority");
    let foreign = middle(|params| params.subject_alt_names = vec![uri("spiffe://evil.example")]);
    chain(&keys, &through(&foreign), "!another SPIFFE ID");
    let workload = middle(|params| params.subject_alt_names = vec![uri(AGENT)]);
    chain(&keys, &through(&workload), "!another SPIFFE ID");
    let expired = middle(|params| params.not_after = date_time_ymd(2021, 1, 1));
    chain(&keys, &through(&expired), "!expired");
    let no_ca = middle(|params| params.is_ca = IsCa::NoCa);
    chain(&keys, &through(&no_ca), "!not of an authority");
    // An SVID signs no other.
    let leaf = middle(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    chain(&keys, &through(&leaf), "!not of an authority");
}
#[test]
fn b6_a_key_of_another_use_is_no_authority() {
    let issuer = authority(|_| {});
    let svid = svid(&issuer, |_| {});
    let certificate = STANDARD.encode(issuer.der());
    for patch in [
        json!({"use": "jwt-svid"}),
        json!({"use": "sig"}),
        json!({"use": null}),
        json!({"x5c": []}),
        json!({"x5c": [certificate, certificate]}),
        json!({"x5c": certificate}),
        json!({"x5c": ["AAAA"]}),
        json!({"x5c": null}),
    ] {
        let mut key = published(&issuer);
        for (name, value) in patch.as_object().unwrap() {
            key[name] = value.clone();
        }
        chain(&[key], std::slice::from_ref(&svid), "!not of an authority");
    }
    chain(&[], &[svid], "!not of an authority");
}
#[test]
fn b6_an_authority_whose_time_is_over_signs_nothing() {
    let issuer = authority(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let svid = svid(&issuer, |_| {});
    chain(&[published(&issuer)], &[svid], "!not of an authority");
}
#[test]
fn b6_what_is_no_authority_signs_nothing() {
    let issuer = authority(|params| params.is_ca = IsCa::NoCa);
    let svid = svid(&issuer, |_| {});
    chain(&[published(&issuer)], &[svid], "!not of an authority");
}
#[test]
fn b6_each_trust_domain_has_authorities_of_its_own() {
    run(async {
        let (ours, theirs) = (authority(|_| {}), authority(|_| {}));
        let our_bundle = Idp::start(&[published(&ours)]).await;
        let their_bundle = Idp::start(&[published(&theirs)]).await;
        let domains = vec![
            domain("example.org", at(&our_bundle)),
            domain("partner.example", at(&their_bundle)),
        ];
        let identity = believer(&[Svid::X509], domains);
        let partner = "spiffe://partner.example/a";
        let named = |params: &mut CertificateParams| params.subject_alt_names = vec![uri(partner)];
        let none = HeaderMap::new();
        let asked = async |svid| ask(&identity, &none, &over(&[svid])).await;
        expect(&asked(svid(&ours, |_| {})).await, AGENT);
        expect(&asked(svid(&theirs, named)).await, partner);
        let forged = "!not of an authority";
        expect(&asked(svid(&theirs, |_| {})).await, forged);
        expect(&asked(svid(&ours, named)).await, forged);
    });
}
#[test]
fn b6_a_foreign_trust_domain_is_refused() {
    let issuer = authority(|_| {});
    let foreign = svid(&issuer, |params| {
        params.subject_alt_names = vec![uri("spiffe://evil.example/a")];
    });
    chain(&[published(&issuer)], &[foreign], "!`evil.example`");
}
#[test]
fn b6_svids_are_taken_of_the_kinds_that_are_configured() {
    run(async {
        let issuer = authority(|_| {});
        let bundle = Idp::start(&[published(&issuer)]).await;
        let transport = over(&[svid(&issuer, |_| {})]);
        let asked = async |identity: &Identity| ask(identity, &HeaderMap::new(), &transport).await;
        let only_jwt = believer(&[Svid::Jwt], vec![domain("example.org", at(&bundle))]);
        expect(&asked(&only_jwt).await, "!not taken here");
        // Whoever knows agents by their certificates does not take it for one that was verified in the handshake.
        let mut none = believer(&[Svid::X509], Vec::new());
        none.certificates = Some(CertificateConfig {
            agent: "{san_uri}".parse().unwrap(),
        });
        expect(&asked(&none).await, "!`example.org`");
    });
}
#[test]
fn b6_authorities_are_rotated() {
    run(async {
        let (old, new) = (authority(|_| {}), authority(|_| {}));
        let bundle = Idp::start(&[published(&old)]).await;
        let identity = believer(&[Svid::X509], vec![domain("example.org", at(&bundle))]);
        let (before, after) = (over(&[svid(&old, |_| {})]), over(&[svid(&new, |_| {})]));
        let none = HeaderMap::new();
        expect(&ask(&identity, &none, &before).await, AGENT);
        expect(&ask(&identity, &none, &after).await, "!not of an authority");
        bundle.publish(&[published(&new)]);
        expect(&ask(&identity, &none, &after).await, AGENT);
        // What was believed before is not any more, on the same connection.
        expect(
            &ask(&identity, &none, &before).await,
            "!not of an authority",
        );
        bundle.answer(Answer::Silence);
        expect(&ask(&identity, &none, &after).await, AGENT);
    });
}
#[test]
fn b6_a_bundle_that_was_never_had_is_unavailable() {
    run(async {
        let issuer = authority(|_| {});
        let bundle = Idp::start(&[]).await;
        bundle.answer(Answer::Raw(
            b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ));
        let identity = believer(&[Svid::X509], vec![domain("example.org", at(&bundle))]);
        let transport = over(&[svid(&issuer, |_| {})]);
        let result = ask(&identity, &HeaderMap::new(), &transport).await;
        expect(&result, "!not available");
    });
}
#[test]
fn b8_every_proof_beside_an_svid_names_the_same_agent() {
    run(async {
        let (issuer, signer) = (authority(|_| {}), Signer::p256());
        let mut key = signer.jwk("1");
        key["use"] = json!("jwt-svid");
        let bundle = Idp::start(&[published(&issuer), key]).await;
        let domains = vec![domain("example.org", at(&bundle))];
        let identity = believer(&[Svid::Jwt, Svid::X509], domains);
        let transport = over(&[svid(&issuer, |_| {})]);
        let mint = |agent: &str| identity.tokens().mint(&task(agent)).unwrap();
        let sign = |agent: &str| {
            let mut claims = claims();
            claims["sub"] = json!(agent);
            signer.sign(&json!({"alg": "ES256", "kid": "1"}), &claims)
        };
        let other = "spiffe://example.org/agents/other";
        let asked = async |headers: HeaderMap| ask(&identity, &headers, &transport).await;

        let agent = asked(bearer(&mint(AGENT))).await.unwrap();
        assert_eq!(
            (agent.method(), agent.txn()),
            (Method::X509Svid, Some("task-1"))
        );
        let agent = asked(bearer(&sign(AGENT))).await.unwrap();
        assert_eq!(agent.method(), Method::JwtSvid);
        let both = head(&[
            ("authorization", &format!("Bearer {}", sign(AGENT))),
            ("x-api-key", &mint(AGENT)),
        ]);
        expect(&asked(both).await, AGENT);
        for token in [mint(other), sign(other)] {
            expect(&asked(bearer(&token)).await, "!disagree");
        }
    });
}
#[test]
fn a_handshake_takes_what_an_authority_signed_or_what_means_to_be_an_svid() {
    let (known, stranger) = (authority(|_| {}), authority(|_| {}));
    let trust = |rule, svids| {
        let authorities = vec![known.der().clone()];
        ClientTrust::new(authorities, rule, svids).unwrap()
    };
    let named =
        |issuer, name: &str| svid(issuer, |params| params.subject_alt_names = vec![uri(name)]);
    let takes = |svids, certificate: &CertificateDer<'_>| {
        let trust = trust(CertificateRule::Optional, svids);
        let verified = trust.verify_client_cert(certificate, &[], UnixTime::now());
        verified.is_ok()
    };
    for svids in [SvidRule::Taken, SvidRule::LikeOthers] {
        assert!(takes(svids, &named(&known, "https://a.example")));
        assert!(takes(svids, &named(&known, AGENT)));
        assert!(!takes(svids, &named(&stranger, "https://a.example")));
        assert!(!takes(svids, &CertificateDer::from(&b"x"[..])));
    }
    assert!(takes(SvidRule::Taken, &named(&stranger, AGENT)));
    assert!(!takes(SvidRule::LikeOthers, &named(&stranger, AGENT)));
    for (rule, is_required) in [
        (CertificateRule::Required, true),
        (CertificateRule::Optional, false),
    ] {
        assert_eq!(
            trust(rule, SvidRule::Taken).client_auth_mandatory(),
            is_required
        );
    }
    // Where SVIDs are certificates like any other, there is no chain to ask a bundle for.
    let chain = [named(&known, AGENT)];
    let read = |svids| {
        trust(CertificateRule::Optional, svids)
            .read(&chain)
            .unwrap()
    };
    assert!(read(SvidRule::LikeOthers).svid().is_none());
    assert!(read(SvidRule::Taken).svid().is_some());
}
