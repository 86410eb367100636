//! B4: keys that change, that can't be had, and key sets made to harm.

use std::task::{Context, Waker};
use std::time::Duration;

use serde_json::json;

use super::idp::Answer;
use super::signer::Signer;
use super::{Idp, ask, bearer, believe, expect, identity, run};
use crate::clock::now;
use crate::key_source::{MAX_WAITING, Pace};
use crate::{Agent, Config, Identity, Unauthenticated};

/// Fetches whenever a reason comes.
const EAGER: Pace = Pace {
    debounce: Duration::ZERO,
    refresh: Duration::from_secs(600),
    patience: Duration::from_secs(5),
};

struct Stage {
    idp: Idp,
    identity: Identity,
    old: Signer,
    new: Signer,
}

impl Stage {
    /// The issuer publishes the old key under `old`.
    async fn new(pace: Pace) -> Self {
        let (old, new) = (Signer::p256(), Signer::p256());
        let idp = Idp::start(&[old.jwk("old")]).await;
        let identity = identity(vec![believe(&idp)], pace);
        Self {
            idp,
            identity,
            old,
            new,
        }
    }

    fn token(&self, kid: &str) -> String {
        let claims =
            json!({"iss": self.idp.issuer(), "aud": "remit", "sub": "triage", "exp": now() + 60});
        let signer = if kid == "old" { &self.old } else { &self.new };
        signer.sign(&json!({"alg": "ES256", "kid": kid}), &claims)
    }

    async fn call(&self, token: &str) -> Result<Agent, Unauthenticated> {
        ask(&self.identity, &bearer(token)).await
    }

    #[track_caller]
    fn asked(&self, times: usize) {
        assert_eq!(self.idp.asked(), times);
    }
}

/// What a first call gives when the key set is answered like this.
#[track_caller]
fn malicious(answer: Answer, pace: Pace) {
    let result = run(async {
        let stage = Stage::new(pace).await;
        stage.idp.answer(answer);
        stage.call(&stage.token("old")).await
    });
    expect(&result, "!not available");
}

fn raw(text: &str) -> Answer {
    Answer::Raw(text.as_bytes().to_vec())
}

#[test]
fn b4_an_unknown_kid_has_the_keys_fetched_again() {
    run(async {
        let stage = Stage::new(EAGER).await;
        expect(&stage.call(&stage.token("old")).await, "triage");
        stage
            .idp
            .publish(&[stage.old.jwk("old"), stage.new.jwk("new")]);
        expect(&stage.call(&stage.token("new")).await, "triage");
        expect(&stage.call(&stage.token("old")).await, "triage");
        stage.asked(2);
    });
}
#[test]
fn b4_unknown_kids_do_not_flood_the_issuer() {
    run(async {
        let stage = Stage::new(Pace::default()).await;
        expect(&stage.call(&stage.token("old")).await, "triage");
        for number in 0..100 {
            expect(
                &stage.call(&stage.token(&format!("made up {number}"))).await,
                "!does not publish",
            );
        }
        stage.asked(1);
    });
}
#[test]
fn b4_calls_at_once_fetch_once() {
    run(async {
        let stage = Stage::new(Pace::default()).await;
        let tokens: Vec<_> = (0..50).map(|_| stage.token("old")).collect();
        let stage = std::sync::Arc::new(stage);
        let calls: Vec<_> = tokens
            .into_iter()
            .map(|token| {
                let stage = std::sync::Arc::clone(&stage);
                tokio::spawn(async move { stage.call(&token).await })
            })
            .collect();
        for call in calls {
            expect(&call.await.unwrap(), "triage");
        }
        stage.asked(1);
    });
}
#[test]
fn b4_a_removed_key_stops_working_though_its_token_was_cached() {
    run(async {
        let stage = Stage::new(EAGER).await;
        let token = stage.token("old");
        expect(&stage.call(&token).await, "triage");
        stage.idp.publish(&[stage.new.jwk("new")]);
        expect(&stage.call(&stage.token("new")).await, "triage");
        expect(&stage.call(&token).await, "!does not publish");
    });
}
#[test]
fn b4_a_key_replaced_under_its_kid_stops_working() {
    run(async {
        let stage = Stage::new(EAGER).await;
        let token = stage.token("old");
        expect(&stage.call(&token).await, "triage");
        stage
            .idp
            .publish(&[stage.new.jwk("old"), stage.new.jwk("new")]);
        expect(&stage.call(&stage.token("new")).await, "triage");
        expect(&stage.call(&token).await, "!signature");
    });
}
#[test]
fn b4_old_keys_are_fetched_again_in_the_background() {
    run(async {
        let pace = Pace {
            refresh: Duration::ZERO,
            ..EAGER
        };
        let stage = Stage::new(pace).await;
        let token = stage.token("old");
        expect(&stage.call(&token).await, "triage");
        stage.idp.publish(&[]);
        // Cached or not, a call does not wait for it; some later one sees that the key is gone.
        while stage.call(&token).await.is_ok() {
            tokio::task::yield_now().await;
        }
        expect(&stage.call(&token).await, "!does not publish");
    });
}
#[test]
fn b4_the_last_good_keys_stay_while_the_issuer_is_down() {
    run(async {
        let stage = Stage::new(EAGER).await;
        expect(&stage.call(&stage.token("old")).await, "triage");
        stage
            .idp
            .answer(raw("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"));
        expect(&stage.call(&stage.token("new")).await, "!does not publish");
        expect(&stage.call(&stage.token("old")).await, "triage");
    });
}
#[test]
fn b4_the_last_good_keys_stay_when_nonsense_comes() {
    run(async {
        let stage = Stage::new(EAGER).await;
        expect(&stage.call(&stage.token("old")).await, "triage");
        stage
            .idp
            .answer(Answer::Json(json!({"error": "try later"})));
        expect(&stage.call(&stage.token("new")).await, "!does not publish");
        expect(&stage.call(&stage.token("old")).await, "triage");
    });
}
#[test]
fn b4_a_new_config_keeps_the_last_good_keys() {
    run(async {
        let stage = Stage::new(EAGER).await;
        expect(&stage.call(&stage.token("old")).await, "triage");
        stage.idp.answer(Answer::Silence);
        let tokens = std::sync::Arc::clone(stage.identity.tokens());
        let mut issuer = believe(&stage.idp);
        issuer.agent = "agents/{sub}".parse().unwrap();
        let next = Identity::new(
            Config {
                issuers: vec![issuer],
                transaction_issuers: Vec::new(),
                tokens,
                dpop: crate::DpopConfig::default(),
                certificates: None,
                clusters: Vec::new(),
                wit_issuers: Vec::new(),
                spiffe: None,
            },
            Some(&stage.identity),
        );
        expect(
            &ask(&next, &bearer(&stage.token("old"))).await,
            "agents/triage",
        );
        stage.asked(1);
    });
}
#[test]
fn b4_an_issuer_that_is_down_is_asked_once_for_many_calls() {
    run(async {
        let stage = Stage::new(Pace::default()).await;
        stage
            .idp
            .answer(raw("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n"));
        for _ in 0..10 {
            expect(&stage.call(&stage.token("old")).await, "!not available");
        }
        stage.asked(1);
    });
}
#[test]
fn b4_an_issuer_that_comes_back_is_believed_again() {
    run(async {
        let stage = Stage::new(EAGER).await;
        stage
            .idp
            .answer(raw("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n"));
        expect(&stage.call(&stage.token("old")).await, "!not available");
        stage.idp.publish(&[stage.old.jwk("old")]);
        expect(&stage.call(&stage.token("old")).await, "triage");
    });
}
#[test]
fn b4_a_caller_that_goes_away_does_not_stop_the_fetch() {
    run(async {
        let stage = Stage::new(Pace::default()).await;
        let (headers, token) = (bearer(&stage.token("old")), stage.token("old"));
        {
            let gone = ask(&stage.identity, &headers);
            tokio::pin!(gone);
            tokio::select! {
                biased;
                _ = &mut gone => panic!("nothing was fetched"),
                () = std::future::ready(()) => {}
            }
        }
        // No second fetch may begin within the debounce, so it can only be the first that brings the key.
        expect(&stage.call(&token).await, "triage");
        stage.asked(1);
    });
}

#[test]
fn b4_a_huge_key_set_is_refused() {
    malicious(
        Answer::Json(json!({"keys": [], "more": "x".repeat(256 * 1024)})),
        EAGER,
    );
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(4 * 1024 * 1024));
    malicious(Answer::Raw(endless.into_bytes()), EAGER);
}
#[test]
fn b4_a_slow_key_set_is_given_up() {
    let hasty = Pace {
        patience: Duration::from_millis(100),
        ..EAGER
    };
    malicious(Answer::Silence, hasty);
}
#[test]
fn b4_calls_that_wait_for_a_slow_issuer_are_bounded() {
    run(async {
        let stage = Stage::new(Pace::default()).await;
        stage.idp.answer(Answer::Silence);
        let headers = bearer(&stage.token("old"));
        let mut context = Context::from_waker(Waker::noop());
        let mut calls: Vec<_> = (0..=MAX_WAITING)
            .map(|_| Box::pin(ask(&stage.identity, &headers)))
            .collect();
        let refused: Vec<_> = calls
            .iter_mut()
            .map(|call| call.as_mut().poll(&mut context).is_ready())
            .collect();
        assert!(refused.ends_with(&[false, true]));
        assert_eq!(refused.iter().filter(|refused| **refused).count(), 1);
    });
}
#[test]
fn b4_a_redirect_is_not_followed() {
    run(async {
        let stage = Stage::new(EAGER).await;
        let other = Idp::start(&[stage.old.jwk("old")]).await;
        let to = format!(
            "HTTP/1.1 302 Found\r\nlocation: {}/keys\r\ncontent-length: 0\r\n\r\n",
            other.issuer()
        );
        stage.idp.answer(Answer::Raw(to.into_bytes()));
        expect(&stage.call(&stage.token("old")).await, "!not available");
        assert_eq!(other.asked(), 0);
    });
}
#[test]
fn b4_what_is_no_http_is_refused() {
    malicious(raw("not http\r\n\r\n"), EAGER);
    malicious(
        raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        EAGER,
    );
    malicious(raw("HTTP/1.1 204 No Content\r\n\r\n"), EAGER);
    malicious(raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"), EAGER);
}
#[test]
fn b4_deeply_nested_keys_are_refused() {
    let deep = "[".repeat(100_000);
    let all = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{deep}",
        deep.len()
    );
    malicious(Answer::Raw(all.into_bytes()), EAGER);
}

/// What a first call gives when discovery answers like this.
#[track_caller]
fn discovered(answer: impl Fn(&Idp) -> Answer, expected: &str) {
    let result = run(async {
        let stage = Stage::new(EAGER).await;
        stage.idp.discover(answer(&stage.idp));
        stage.call(&stage.token("old")).await
    });
    expect(&result, expected);
}

#[test]
fn discovery_leads_to_the_keys() {
    let keys = |idp: &Idp| format!("{}/keys", idp.issuer());
    discovered(
        |idp| Answer::Json(json!({"issuer": idp.issuer(), "jwks_uri": keys(idp)})),
        "triage",
    );
}
#[test]
fn discovery_of_another_issuer_is_refused() {
    let keys = |idp: &Idp| format!("{}/keys", idp.issuer());
    let other = "https://idp.example";
    discovered(
        |idp| Answer::Json(json!({"issuer": other, "jwks_uri": keys(idp)})),
        "!not available",
    );
}
#[test]
fn discovery_that_leads_elsewhere_in_the_clear_is_refused() {
    let elsewhere = "http://idp.example/keys";
    discovered(
        |idp| Answer::Json(json!({"issuer": idp.issuer(), "jwks_uri": elsewhere})),
        "!not available",
    );
}
#[test]
fn discovery_that_leads_to_a_file_is_refused() {
    let file = "file:///etc/passwd";
    discovered(
        |idp| Answer::Json(json!({"issuer": idp.issuer(), "jwks_uri": file})),
        "!not available",
    );
}
#[test]
fn discovery_that_is_nonsense_is_refused() {
    discovered(|_| Answer::Json(json!({})), "!not available");
    discovered(
        |_| raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{"),
        "!not available",
    );
}
#[test]
fn a_known_key_set_needs_no_discovery() {
    let result = run(async {
        let stage = Stage::new(EAGER).await;
        stage.idp.discover(Answer::Silence);
        let mut issuer = believe(&stage.idp);
        issuer.jwks_uri = Some(format!("{}/keys", stage.idp.issuer()).parse().unwrap());
        let identity = identity(vec![issuer], EAGER);
        ask(&identity, &bearer(&stage.token("old"))).await
    });
    expect(&result, "triage");
}
#[test]
fn keys_are_not_fetched_in_the_clear() {
    let result = run(async {
        let stage = Stage::new(EAGER).await;
        let mut issuer = believe(&stage.idp);
        issuer.jwks_uri = Some("http://idp.example/keys".parse().unwrap());
        let identity = identity(vec![issuer], EAGER);
        ask(&identity, &bearer(&stage.token("old"))).await
    });
    expect(&result, "!not available");
}
#[test]
fn an_issuer_over_tls_is_not_asked_in_the_clear() {
    run(async {
        let stage = Stage::new(EAGER).await;
        let mut issuer = believe(&stage.idp);
        issuer.jwks_uri = Some(
            format!("https://{}/keys", stage.idp.url().authority())
                .parse()
                .unwrap(),
        );
        let identity = identity(vec![issuer], EAGER);
        let result = ask(&identity, &bearer(&stage.token("old"))).await;
        expect(&result, "!not available");
        stage.asked(0);
    });
}
