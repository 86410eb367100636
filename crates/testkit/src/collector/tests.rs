//! That a collector keeps what a client exports, by both wires.

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use super::*;

fn export() -> trace_service::ExportTraceServiceRequest {
    let attribute = KeyValue {
        key: "remit.tool".into(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue("notes".into())),
        }),
        ..KeyValue::default()
    };
    let span = Span {
        name: "call".into(),
        attributes: vec![attribute],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        scope_spans,
        ..ResourceSpans::default()
    }];
    trace_service::ExportTraceServiceRequest { resource_spans }
}

#[track_caller]
fn check(collector: &Collector) {
    let spans = collector.spans();
    assert_eq!((spans.len(), spans[0].name.as_str()), (1, "call"));
    assert_eq!(
        Value::Object(attributes(&spans[0].attributes)),
        json!({ "remit.tool": "notes" })
    );
    assert_eq!(collector.requests(), 1);
}

async fn post(collector: &Collector, body: Vec<u8>) -> u16 {
    let _ = rustls::crypto::ring::default_provider()
        .install_default()
        .is_ok();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("{}/v1/traces", collector.http()))
        .body(body);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn spans_come_by_http() {
    let collector = Collector::start().await;
    assert_eq!(post(&collector, export().encode_to_vec()).await, 200);
    check(&collector);
}
#[tokio::test]
async fn spans_come_by_grpc() {
    let collector = Collector::start().await;
    let endpoint = collector.grpc().to_owned();
    let mut client = trace_service::trace_service_client::TraceServiceClient::connect(endpoint)
        .await
        .unwrap();
    client.export(export()).await.unwrap();
    check(&collector);
}
#[tokio::test]
async fn what_is_no_export_is_refused() {
    let collector = Collector::start().await;
    assert_eq!(post(&collector, b"no protobuf".to_vec()).await, 400);
}
#[tokio::test]
async fn it_can_be_down() {
    let collector = Collector::start().await;
    collector.mood(Mood::Down);
    assert_eq!(post(&collector, export().encode_to_vec()).await, 503);
    assert!(collector.spans().is_empty());
}
