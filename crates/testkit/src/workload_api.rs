//! A SPIFFE Workload API on a Unix socket, as far as it gives bundles and X.509-SVIDs: a fake made by SPIFFE's documents, not SPIRE.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Certified, Serving};

/// A SPIFFE Workload API that gives bundles, and tells when they change.
#[derive(Debug)]
pub struct WorkloadApi {
    bundles: watch::Sender<Given>,
    asked: Arc<AtomicUsize>,
    _serving: Serving,
}

#[derive(Clone, Debug)]
struct Given {
    jwt: JwtBundles,
    x509: X509Bundles,
    svids: X509Svids,
}

/// What `FetchJWTBundles` answers with.
#[derive(Clone, PartialEq, Message)]
struct JwtBundles {
    #[prost(map = "string, bytes", tag = "1")]
    bundles: HashMap<String, Vec<u8>>,
}

/// What `FetchX509Bundles` answers with.
#[derive(Clone, PartialEq, Message)]
struct X509Bundles {
    #[prost(map = "string, bytes", tag = "2")]
    bundles: HashMap<String, Vec<u8>>,
}

/// What `FetchX509SVID` answers with.
#[derive(Clone, PartialEq, Message)]
struct X509Svids {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
}

#[derive(Clone, PartialEq, Message)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl WorkloadApi {
    /// Listens at a socket, and gives the JWT bundles of these trust domains; no X.509 bundles at first.
    pub async fn start(socket: &Path, bundles: &[(&str, Value)]) -> Self {
        // Left behind, if one listened there before.
        tokio::fs::remove_file(socket).await.ok();
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = watch::channel(Given {
            jwt: read(bundles),
            x509: X509Bundles::default(),
            svids: X509Svids::default(),
        });
        Self {
            bundles: sender,
            _serving: Serving::spawn(serve(listener, receiver, Arc::clone(&asked))),
            asked,
        }
    }

    /// Gives these JWT bundles from now on, and those who listen at once.
    pub fn publish(&self, bundles: &[(&str, Value)]) {
        self.bundles.send_modify(|given| given.jwt = read(bundles));
    }

    /// The same of X.509 bundles: the certificates of each one after another, DER.
    pub fn publish_x509(&self, bundles: &[(&str, Vec<u8>)]) {
        let bundles = bundles.iter();
        let bundles =
            bundles.map(|(domain, bundle)| (format!("spiffe://{domain}"), bundle.clone()));
        let bundles = bundles.collect();
        self.bundles
            .send_modify(|given| given.x509 = X509Bundles { bundles });
    }

    /// Gives the workload that asks these SVIDs, by their SPIFFE IDs.
    pub fn give(&self, svids: &[(&str, &Certified)]) {
        let svids = svids.iter().map(|(id, pair)| {
            let (chain, key) = pair.der();
            let x509_svid: Vec<u8> = chain.iter().flat_map(|one| one.to_vec()).collect();
            X509Svid {
                spiffe_id: (*id).to_owned(),
                bundle: x509_svid.clone(),
                x509_svid,
                x509_svid_key: key.secret_der().to_vec(),
            }
        });
        let svids = svids.collect();
        self.bundles
            .send_modify(|given| given.svids = X509Svids { svids });
    }

    /// How often it was asked for bundles.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn read(bundles: &[(&str, Value)]) -> JwtBundles {
    let entry = |(domain, bundle): &(&str, Value)| {
        (
            format!("spiffe://{domain}"),
            bundle.to_string().into_bytes(),
        )
    };
    JwtBundles {
        bundles: bundles.iter().map(entry).collect(),
    }
}

async fn serve(listener: UnixListener, bundles: watch::Receiver<Given>, asked: Arc<AtomicUsize>) {
    // Dropped with this future, so that its end is that of all connections.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (bundles, asked) = (bundles.clone(), Arc::clone(&asked));
        let answer = service_fn(move |request| {
            let answer = answer(&request, &bundles, &asked);
            async move { Ok::<_, Infallible>(answer) }
        });
        let server = http2::Builder::new(TokioExecutor::new());
        connections.spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

/// The codes of gRPC that are used here.
const INVALID_ARGUMENT: &str = "3";
const UNIMPLEMENTED: &str = "12";

fn answer(
    request: &Request<Incoming>,
    bundles: &watch::Receiver<Given>,
    asked: &AtomicUsize,
) -> Answer {
    let encode: fn(&Given) -> Vec<u8> = match request.uri().path() {
        "/SpiffeWorkloadAPI/FetchJWTBundles" => |given| given.jwt.encode_to_vec(),
        "/SpiffeWorkloadAPI/FetchX509SVID" => |given| given.svids.encode_to_vec(),
        "/SpiffeWorkloadAPI/FetchX509Bundles" => |given| given.x509.encode_to_vec(),
        _ => return refusal(UNIMPLEMENTED),
    };
    // Tells workloads from browsers that were led here (SPIFFE Workload Endpoint, section 3).
    let security = request.headers().get("workload.spiffe.io");
    if security.is_none_or(|value| value != "true") {
        return refusal(INVALID_ARGUMENT);
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let mut bundles = bundles.clone();
    bundles.mark_changed();
    let messages = stream::unfold((bundles, encode), async |(mut bundles, encode)| {
        bundles.changed().await.ok()?;
        let message = encode(&bundles.borrow_and_update());
        Some((Ok(Frame::data(framed(&message))), (bundles, encode)))
    });
    grpc(StreamBody::new(messages).boxed(), &HeaderMap::new())
}

fn refusal(code: &'static str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static(code));
    grpc(Empty::new().boxed(), &headers)
}

fn grpc(body: BoxBody<Bytes, Infallible>, headers: &HeaderMap) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().extend(headers.clone());
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", kind);
    answer
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}
