//! The way to a collector: batches of records, sent from threads of their own.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use crate::envelope::Envelope;
use crate::metrics::{self, Metrics, Signal};
use crate::protobuf::Message;
use crate::queue::Queue;
use crate::record::Told;
use crate::recorder::Thread;
use crate::wire::{self, PATIENCE, Wire};
use crate::{Otlp, OtlpProtocol, StartError, logs, names, spans};

/// How many records go in one request, and how long fewer may wait.
const BATCH: usize = 512;
const WAIT: Duration = Duration::from_secs(1);

/// The running export.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) queue: Arc<Queue<Told>>,
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
    let resource = resource(service_name);
    let wires = {
        let _inside = runtime.enter();
        Wires::new(otlp)?
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
        .with_resource(resource.clone())
        .build();
    metrics.observe_with(&meters.meter_with_scope(scope()));

    let queue = Arc::new(Queue::new(capacity, BATCH));
    let sender = Sender {
        queue: Arc::clone(&queue),
        envelope: Envelope::new(&resource),
        spans: Message::default(),
        events: Message::default(),
        traces: wires.traces,
        logs: wires.logs,
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

/// The scope of the metrics; that of the other signals is the same, in [`Envelope`].
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(names::SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

/// The wires to one collector. Metrics are few, so that the SDK's exporter is cheap enough.
struct Wires {
    traces: Wire,
    logs: Wire,
    metrics: MetricExporter,
}

impl Wires {
    fn new(otlp: &Otlp) -> Result<Self, StartError> {
        let client = wire::client()?;
        Ok(Self {
            traces: Wire::new(otlp, &client, wire::TRACES)?,
            logs: Wire::new(otlp, &client, wire::LOGS)?,
            metrics: metric_exporter(otlp, client).map_err(refused)?,
        })
    }
}

fn metric_exporter(
    otlp: &Otlp,
    client: reqwest::Client,
) -> Result<MetricExporter, ExporterBuildError> {
    match otlp.protocol {
        OtlpProtocol::HttpProtobuf => MetricExporter::builder()
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_http_client(client)
            .with_endpoint(otlp.endpoint.signal("metrics"))
            .with_timeout(PATIENCE)
            .build(),
        OtlpProtocol::Grpc => {
            let mut exporter = MetricExporter::builder()
                .with_tonic()
                .with_endpoint(otlp.endpoint.to_string())
                .with_timeout(PATIENCE);
            if otlp.endpoint.is_https() {
                exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
            }
            exporter.build()
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn refused(error: ExporterBuildError) -> StartError {
    StartError(format!("the collector's exporter can't start: {error}"))
}

/// Sends spans and events, batch by batch.
struct Sender {
    queue: Arc<Queue<Told>>,
    envelope: Envelope,
    spans: Message,
    events: Message,
    traces: Wire,
    logs: Wire,
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

    async fn send(&mut self, batch: &[Told]) {
        let mut calls = 0;
        for told in batch {
            match told {
                Told::Call(record) => {
                    spans::write(record, &mut self.spans);
                    logs::write(record, &mut self.events);
                    calls += 1;
                }
                Told::Task(event) => logs::write_task(event, &mut self.events),
                Told::Revocation(event) => logs::write_revocation(event, &mut self.events),
            }
        }
        let (traces, logs) = tokio::join!(
            self.traces.send(self.envelope.seal(&mut self.spans)),
            self.logs.send(self.envelope.seal(&mut self.events)),
        );
        for (signal, outcome, records) in [
            (Signal::Traces, &traces, calls),
            (Signal::Logs, &logs, batch.len()),
        ] {
            if outcome.is_err() {
                self.metrics.dropped(signal, records);
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
