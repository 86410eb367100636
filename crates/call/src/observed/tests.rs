//! Which content types are gRPC.

use super::is_grpc;

#[test]
fn grpc_is_known_by_its_content_type() {
    for value in [
        "application/grpc",
        "application/grpc+proto",
        "Application/gRPC;x=1",
    ] {
        assert!(is_grpc(value.as_bytes()), "{value}");
    }
}
#[test]
fn grpc_web_and_others_are_not_grpc() {
    for value in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/json",
        "",
    ] {
        assert!(!is_grpc(value.as_bytes()), "{value}");
    }
}
