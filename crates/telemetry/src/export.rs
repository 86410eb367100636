//! The way to a collector: batches of records, sent from threads of their own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use crate::logs::Events;
use crate::metrics::{self, Metrics, Signal};
use crate::queue::Queue;
use crate::recorder::Thread;
use crate::{CallRecord, Endpoint, Otlp, OtlpProtocol, StartError, names, spans};

/// How many records go in one request, and how long fewer may wait.
const BATCH: usize = 512;
const WAIT: Duration = Duration::from_secs(1);
/// How long a collector may take for one request, retries included. The queue fills meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running export.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) queue: Arc<Queue<Arc<CallRecord>>>,
    thread: Thread,
    meters: SdkMeterProvider,
    finish: mpsc::Sender<MetersHang>,
}

/// The meters' thread is still waiting for the collector.
struct MetersHang;

impl Export {
    /// Sends what waits, until the deadline: how many records were left.
    pub(crate) fn stop(self, deadline: Instant) -> usize {
        let Self {
            queue,
            thread,
            meters,
            finish,
        } = self;
        queue.close();
        // The meters wait 5 s for their last request, whatever one asks of them, so others wait for them.
        let meters = Thread::start("remit-meters", move || drop(meters.shutdown()));
        if meters.is_ok_and(|meters| !meters.wait(deadline)) {
            // The thread may be gone already, then nobody needs to know.
            let _ = finish.send(MetersHang);
        }
        drop(finish);
        thread.wait(deadline);
        queue.abandon()
    }
}

/// Starts to export to `otlp`, with at most `capacity` records waiting.
pub(crate) fn start(
    otlp: &Otlp,
    service_name: &str,
    capacity: usize,
    metrics: &Arc<Metrics>,
) -> Result<Export, StartError> {
    // `reqwest` takes the process's provider, and `ring` is the only one compiled in: whoever installs it first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("remit-otlp")
        .enable_all()
        .build()
        .map_err(|e| StartError(format!("no thread for the collector: {e}")))?;
    let wires = {
        let _inside = runtime.enter();
        Wires::new(otlp, &resource(service_name))?
    };
    let exporter = OnRuntime {
        exporter: wires.metrics,
        runtime: runtime.handle().clone(),
        metrics: Arc::clone(metrics),
    };
    let reader = PeriodicReader::builder(exporter)
        .with_interval(metrics::EVERY)
        .build();
    let meters = SdkMeterProvider::builder()
        .with_reader(reader)
        .with_resource(resource(service_name))
        .build();
    metrics.observe_with(&meters.meter_with_scope(spans::scope()));

    let queue = Arc::new(Queue::new(capacity, BATCH));
    let sender = Sender {
        queue: Arc::clone(&queue),
        spans: wires.spans,
        logs: wires.logs,
        events: Events::new(),
        metrics: Arc::clone(metrics),
        away: false,
    };
    let (finish, finished) = mpsc::channel();
    let thread = Thread::start("remit-export", move || sender.run(runtime, &finished))?;
    Ok(Export {
        queue,
        thread,
        meters,
        finish,
    })
}

/// What every signal says of where it comes from.
fn resource(service_name: &str) -> Resource {
    Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new(
            names::SERVICE_VERSION,
            env!("CARGO_PKG_VERSION"),
        ))
        .with_attribute(KeyValue::new(
            names::SERVICE_INSTANCE_ID,
            instance().to_owned(),
        ))
        .build()
}

fn instance() -> &'static str {
    static INSTANCE: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| uuid::Uuid::now_v7().to_string());
    &INSTANCE
}

/// The three exporters to one collector.
struct Wires {
    spans: SpanExporter,
    logs: LogExporter,
    metrics: MetricExporter,
}

impl Wires {
    fn new(otlp: &Otlp, resource: &Resource) -> Result<Self, StartError> {
        let mut wires = match otlp.protocol {
            OtlpProtocol::HttpProtobuf => Self::http(&otlp.endpoint)?,
            OtlpProtocol::Grpc => Self::grpc(&otlp.endpoint)?,
        };
        wires.spans.set_resource(resource);
        wires.logs.set_resource(resource);
        Ok(wires)
    }

    fn http(endpoint: &Endpoint) -> Result<Self, StartError> {
        // No proxy: the environment's may well be this gateway. No redirect: OTLP knows none.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| StartError(format!("no client for the collector: {e}")))?;
        let spans = SpanExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_http_client(client.clone())
            .with_endpoint(endpoint.signal("traces"))
            .with_timeout(PATIENCE);
        let logs = LogExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_http_client(client.clone())
            .with_endpoint(endpoint.signal("logs"))
            .with_timeout(PATIENCE);
        let metrics = MetricExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_http_client(client)
            .with_endpoint(endpoint.signal("metrics"))
            .with_timeout(PATIENCE);
        Ok(Self {
            spans: spans.build().map_err(refused)?,
            logs: logs.build().map_err(refused)?,
            metrics: metrics.build().map_err(refused)?,
        })
    }

    fn grpc(endpoint: &Endpoint) -> Result<Self, StartError> {
        let address = endpoint.to_string();
        let mut spans = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&address)
            .with_timeout(PATIENCE);
        let mut logs = LogExporter::builder()
            .with_tonic()
            .with_endpoint(&address)
            .with_timeout(PATIENCE);
        let mut metrics = MetricExporter::builder()
            .with_tonic()
            .with_endpoint(&address)
            .with_timeout(PATIENCE);
        if endpoint.is_https() {
            let tls = ClientTlsConfig::new().with_native_roots();
            spans = spans.with_tls_config(tls.clone());
            logs = logs.with_tls_config(tls.clone());
            metrics = metrics.with_tls_config(tls);
        }
        Ok(Self {
            spans: spans.build().map_err(refused)?,
            logs: logs.build().map_err(refused)?,
            metrics: metrics.build().map_err(refused)?,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn refused(error: opentelemetry_otlp::ExporterBuildError) -> StartError {
    StartError(format!("the collector's exporter can't start: {error}"))
}

/// Sends spans and events, batch by batch.
struct Sender {
    queue: Arc<Queue<Arc<CallRecord>>>,
    spans: SpanExporter,
    logs: LogExporter,
    events: Events,
    metrics: Arc<Metrics>,
    away: bool,
}

impl Sender {
    fn run(mut self, runtime: Runtime, finished: &mpsc::Receiver<MetersHang>) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.take(&mut batch, BATCH, WAIT) {
            if !batch.is_empty() {
                runtime.block_on(self.send(&batch));
                batch.clear();
            }
        }
        // The meters' last request needs the runtime, and one that hangs would panic without it: then the
        // runtime stays until the process ends.
        while let Ok(MetersHang) = finished.recv() {
            std::thread::park();
        }
        runtime.shutdown_background();
    }

    async fn send(&mut self, batch: &[Arc<CallRecord>]) {
        let spans: Vec<_> = batch.iter().flat_map(|record| spans::of(record)).collect();
        let events: Vec<_> = batch.iter().map(|record| self.events.of(record)).collect();
        let scope = spans::scope();
        let events: Vec<_> = events.iter().map(|event| (event, &scope)).collect();
        let (traces, logs) = tokio::join!(
            timely(self.spans.export(spans)),
            timely(self.logs.export(LogBatch::new(&events))),
        );
        for (signal, outcome) in [(Signal::Traces, &traces), (Signal::Logs, &logs)] {
            if outcome.is_err() {
                self.metrics.dropped(signal, batch.len());
            }
        }
        self.notice(&traces.and(logs));
    }

    /// Says once that the collector went away, and once that it is back.
    fn notice(&mut self, outcome: &Result<(), String>) {
        match (outcome, self.away) {
            (Err(error), false) => {
                tracing::warn!(error, "collector is away, records are dropped and counted");
            }
            (Ok(()), true) => tracing::info!("collector is back"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        self.away = outcome.is_err();
    }
}

async fn timely(export: impl Future<Output = OTelSdkResult>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, export).await {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the collector is too slow".to_owned()),
    }
}

/// Lets the meters' own thread, which knows no tokio, export over tokio's sockets.
struct OnRuntime {
    exporter: MetricExporter,
    runtime: Handle,
    metrics: Arc<Metrics>,
}

impl PushMetricExporter for OnRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut export = pin!(self.exporter.export(metrics));
        let outcome = poll_fn(|context| {
            let _inside = self.runtime.enter();
            export.as_mut().poll(context)
        })
        .await;
        if outcome.is_err() {
            self.metrics.dropped(Signal::Metrics, 1);
        }
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
