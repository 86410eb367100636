//! A cost is found in what tools answer, whatever the pieces it comes in.

use http::HeaderValue;

use super::*;

const CHAT: &str = r#"{"id":"1","choices":[{"message":{"content":"{\"usage\":{\"total_tokens\":9}}"}}],"usage":{"total_tokens":42}}"#;

fn counting(source: MeterSource) -> Counting {
    Counting {
        meter: Arc::new(Meter {
            unit: "tokens".parse().unwrap(),
            operations: Vec::new(),
            access: Vec::new(),
            source,
            price: 1.0,
            reserve: Amount::ZERO,
        }),
        found: None,
    }
}

fn head(kind: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers
}

/// What is found at these pointers of a body that comes in pieces of every size.
#[track_caller]
fn check(kind: &'static str, body: &str, pointers: &[&str], expect: Option<f64>) {
    for size in [1, 2, 3, 7, 64, body.len().max(1)] {
        let pointers = pointers.iter().map(|pointer| pointer.parse().unwrap());
        let pointers = pointers.collect();
        let mut meters = [counting(MeterSource::Json(pointers))];
        let budget = Budget::new(8 * LONGEST);
        let mut reading = Reading::of(&head(kind), &budget).unwrap_or(Reading::Nothing);
        for piece in body.as_bytes().chunks(size) {
            reading.take(&Bytes::copy_from_slice(piece), &mut meters);
        }
        reading.end(&mut meters);
        assert_eq!(meters[0].found, expect, "in pieces of {size}");
    }
}

#[test]
fn json_tells_it_at_a_pointer() {
    check(
        "application/json",
        CHAT,
        &["/usage/total_tokens"],
        Some(42.0),
    );
    check(
        "application/json; charset=utf-8",
        CHAT,
        &["/usage/total_tokens"],
        Some(42.0),
    );
    check(
        "application/problem+json",
        CHAT,
        &["/usage/total_tokens"],
        Some(42.0),
    );
    check(
        "application/json",
        CHAT,
        &["/usage/none", "/usage/total_tokens"],
        Some(42.0),
    );
    check("application/json", CHAT, &["/usage/none"], None);
    check("application/json", CHAT, &["/id"], None);
    check("text/plain", CHAT, &["/usage/total_tokens"], None);
    check(
        "application/json",
        CHAT.split_at(60).0,
        &["/usage/total_tokens"],
        None,
    );
    check("application/json", r#"{"n":-5}"#, &["/n"], None);
    check("application/json", r#"{"n":1e999}"#, &["/n"], None);
}

#[test]
fn events_tell_it_and_the_largest_counts() {
    let openai = "data: {\"choices\":[],\"usage\":null}\n\ndata: {\"usage\":{\"total_tokens\":42}}\n\ndata: [DONE]\n\n";
    check(
        "text/event-stream",
        openai,
        &["/usage/total_tokens"],
        Some(42.0),
    );
    let anthropic = "event: message_start\r\ndata: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\r\n\r\n\
                     event: message_delta\r\ndata: {\"usage\":{\"output_tokens\":15}}\r\n\r\n";
    let output = ["/message/usage/output_tokens", "/usage/output_tokens"];
    check("text/event-stream", anthropic, &output, Some(15.0));
    check(
        "text/event-stream",
        anthropic,
        &["/message/usage/input_tokens"],
        Some(25.0),
    );
    let split = "data: {\"usage\":\ndata: {\"total_tokens\": 3}}\n\n";
    check(
        "text/event-stream",
        split,
        &["/usage/total_tokens"],
        Some(3.0),
    );
    let unfinished = "data: {\"usage\":{\"total_tokens\":7}}";
    check(
        "text/event-stream",
        unfinished,
        &["/usage/total_tokens"],
        Some(7.0),
    );
    let lines = "{\"n\":1}\n{\"n\":3}\n{\"n\":2}";
    check("application/x-ndjson", lines, &["/n"], Some(3.0));
}

#[test]
fn what_is_too_long_is_passed_over_and_what_follows_is_found() {
    let long = "x".repeat(LONGEST);
    let events =
        format!("data: {{\"n\":1}}\n\ndata: \"{long}\ndata: {{\"n\":9}}\n\ndata: {{\"n\":2}}\n\n");
    check("text/event-stream", &events, &["/n"], Some(2.0));
    let lines = format!("{{\"n\":1}}\n\"{long}\"\n{{\"n\":2}}\n");
    check("application/jsonl", &lines, &["/n"], Some(2.0));
    let json = format!("{{\"long\":\"{long}\",\"n\":1}}");
    check("application/json", &json, &["/n"], None);
}

#[test]
fn what_is_coded_or_a_part_is_not_read() {
    let budget = Budget::new(8 * LONGEST);
    for (name, value, is_read) in [
        (header::CONTENT_ENCODING, "gzip", false),
        (header::CONTENT_ENCODING, "identity", true),
        (header::CONTENT_RANGE, "bytes 0-1/10", false),
        (header::CONTENT_LENGTH, "1048576", true),
        (header::CONTENT_LENGTH, "1048577", false),
    ] {
        let mut headers = head("application/json");
        headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(Reading::of(&headers, &budget).is_some(), is_read, "{value}");
    }
}

#[test]
fn what_there_is_no_room_for_is_not_read_and_room_is_given_back() {
    let budget = Budget::new(3 << 14);
    let pointers = vec!["/n".parse().unwrap()];
    let mut meters = [counting(MeterSource::Json(pointers))];
    let mut reading = Reading::of(&head("text/event-stream"), &budget).unwrap();
    let long = format!("data: {{\"n\":1}}\ndata: \"{}\"\n\n", "x".repeat(3 << 14));
    reading.take(long.as_bytes(), &mut meters);
    assert_eq!(meters[0].found, None);
    reading.take(b"data: {\"n\":2}\n\n", &mut meters);
    assert_eq!(meters[0].found, Some(2.0));
    let all = budget.take(1 << 14).unwrap();
    drop(reading);
    drop(all);
    assert!(budget.take(3 << 14).is_ok());
}
