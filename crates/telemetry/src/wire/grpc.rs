//! OTLP over gRPC: one unary call per request.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Code, Extensions, Request, Status};
use tonic_types::StatusExt;

use super::{Failure, PATIENCE, chain, headers};
use crate::{Endpoint, StartError};

/// One signal's method, and the connection it is called over.
#[derive(Debug)]
pub(crate) struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
    path: PathAndQuery,
}

impl Grpc {
    pub(super) fn new(
        endpoint: &Endpoint,
        path: &'static str,
        given: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, StartError> {
        let unusable = |e: tonic::transport::Error| {
            StartError(format!(
                "the collector's address can't be used: {}",
                chain(&e)
            ))
        };
        let mut channel = Channel::from_shared(endpoint.to_string())
            .map_err(|e| StartError(format!("the collector's address can't be used: {e}")))?
            .timeout(PATIENCE);
        if endpoint.is_https() {
            let tls = ClientTlsConfig::new().with_native_roots();
            channel = channel.tls_config(tls).map_err(unusable)?;
        }
        let mut metadata = HeaderMap::new();
        metadata.insert(header::USER_AGENT, headers::USER_AGENT);
        // Collected first: one that comes twice stays twice, but replaces ours.
        metadata.extend(given.into_iter().collect::<HeaderMap>());
        Ok(Self {
            channel: channel.connect_lazy(),
            metadata: MetadataMap::from_headers(metadata),
            path: PathAndQuery::from_static(path),
        })
    }

    pub(super) async fn send(&self, request: Bytes) -> Result<Bytes, Failure> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|e| Failure {
            text: chain(&e),
            passing: None,
        })?;
        let request = Request::from_parts(self.metadata.clone(), Extensions::default(), request);
        let answer = grpc.unary(request, self.path.clone(), Ready).await;
        Ok(answer.map_err(|status| failure(&status))?.into_inner())
    }
}

/// The status's message isn't told, since collectors are known to repeat tokens in it; its cause is this
/// side's own.
fn failure(status: &Status) -> Failure {
    let mut text = format!("the collector answered {:?}", status.code());
    if let Some(cause) = status.source() {
        text.push_str(": ");
        text.push_str(&chain(cause));
    }
    Failure {
        text,
        passing: passing(status),
    }
}

/// The codes that OTLP says may pass: one of them only where the collector says when.
fn passing(status: &Status) -> Option<Duration> {
    let delay = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    match status.code() {
        Code::ResourceExhausted => delay,
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss => Some(delay.unwrap_or_default()),
        _ => None,
    }
}

/// A codec for messages that are bytes already.
#[derive(Clone, Copy, Debug)]
struct Ready;

impl Codec for Ready {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Ready {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Ready {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
