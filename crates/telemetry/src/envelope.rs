//! What is the same around every batch: the resource that tells, and the scope it tells in.

use bytes::Bytes;
use opentelemetry_sdk::Resource;

use crate::attributes::Attributes;
use crate::names;
use crate::protobuf::{Message, with_length};

/// The resource and the scope, written once.
///
/// `ExportTraceServiceRequest` and `ExportLogsServiceRequest` (OTLP 1.x) are alike but for what a span or an
/// event is: `{1: {1: resource, 2: {1: scope, 2: item, 2: item, …}}}`.
#[derive(Debug)]
pub(crate) struct Envelope {
    resource: Message,
    scope: Message,
}

const OF_RESOURCE: u32 = 1;
const RESOURCE: u32 = 1;
const OF_SCOPE: u32 = 2;
const SCOPE: u32 = 1;

/// Where spans stand in `ScopeSpans`, and events in `ScopeLogs`.
pub(crate) const ITEM: u32 = 2;

/// Room that a batch's items keep for the next batch: that of 512 usual calls.
const ROOM: usize = 4 << 20;

impl Envelope {
    pub(crate) fn new(resource: &Resource) -> Self {
        let mut of_resource = Message::default();
        of_resource.message(RESOURCE, |message| {
            let mut attributes = Attributes::new(message, 1);
            for (key, value) in resource {
                // Every attribute of a resource is a text: ours, the SDK's and the environment's.
                attributes.put(key.as_str(), &*value.as_str());
            }
        });
        let mut of_scope = Message::default();
        of_scope.message(SCOPE, |scope| {
            scope.text(1, names::SCOPE);
            scope.text(2, env!("CARGO_PKG_VERSION"));
        });
        Self {
            resource: of_resource,
            scope: of_scope,
        }
    }

    /// A request with these items, which are taken out.
    pub(crate) fn seal(&self, items: &mut Message) -> Bytes {
        let resource = self.resource.as_bytes();
        let scope = self.scope.as_bytes();
        let of_scope = scope.len() + items.as_bytes().len();
        let of_resource = resource.len() + 1 + with_length(of_scope);
        let mut request = Message::with_capacity(1 + with_length(of_resource));
        request.head(OF_RESOURCE, of_resource);
        request.fields(resource);
        request.head(OF_SCOPE, of_scope);
        request.fields(scope);
        request.fields(items.as_bytes());
        items.clear(ROOM);
        request.into()
    }
}

#[cfg(test)]
mod tests;
