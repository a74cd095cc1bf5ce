//! Starting, accepting connections, and ending without losing a request.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::Router;
use axum::body::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access_log::AccessLog;
use super::batch_queue::BatchLimits;
use super::batching::Batcher;
use super::connection;
use super::guard::Guard;
use super::images::without_places;
use super::metrics::Metrics;
use super::model_info::RunFacts;
use super::options::ServeOptions;
use super::router::router;
use super::state::{Parts, State};
use super::token_source::{ServiceToken, TOKEN_VARIABLE};
use crate::data::photos::open_detector;
use crate::device::cores;
use crate::inference::classifier::{Classifier, ClassifierOptions};
use crate::inference::trained_run::TrainedRun;
use crate::util::signals::{self, Signals};
use crate::util::text::count;

/// How long to wait for connections that the system has completed, when no new ones are taken.
const BACKLOG_WAIT: Duration = Duration::from_millis(20);

/// Maximum time after a signal until requests in progress are cut off.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(60);

/// A signal that arrives within this time of the first is no second one: `timeout`, among others, sends
/// it to a process, and then to its group.
const REPEAT_TIME: Duration = Duration::from_secs(1);

/// Maximum time for the last lines of the log.
const MAX_LOG_TIME: Duration = Duration::from_secs(2);

/// How often signals are looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// A service that listens, with its model loaded.
#[derive(Debug)]
pub struct Server {
    listener: StdListener,
    url: String,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
    signals: Signals,
}

impl Server {
    /// Takes the address, loads the run and starts the threads of model and log.
    ///
    /// # Errors
    /// Input errors for options and run; an error for an address that cannot be used.
    pub fn start(
        run: TrainedRun,
        model: &ClassifierOptions,
        mut options: ServeOptions,
        token: Option<ServiceToken>,
        signals: Signals,
    ) -> Result<Self> {
        options.check(token.is_some(), TOKEN_VARIABLE)?;
        let listener = listen(&options)?;
        options.addr = listener.local_addr()?;
        let facts = RunFacts::new(&run);
        let classes = run.data().classes.clone();
        let classifier = Classifier::new(run, model)?;
        // The first prediction prepares libtorch's kernels; nobody should wait for that.
        classifier.predict(vec![0; crate::data::images::PIXELS])?;
        let detector = open_detector().map(Arc::new).map_err(|error| error.to_string());
        let (log, log_thread) = AccessLog::start(options.access_log)?;
        let url = format!("http://{}", options.addr);
        if let Some(warning) = token.as_ref().and_then(|token| token.warning.as_ref()) {
            log.line(&format!("warning: {warning}"));
        }
        describe(&log, &facts, detector.as_ref().err(), &url, !options.addr.ip().is_loopback());
        let problem = detector.as_ref().err().map(|problem| without_places(problem));
        let model_info = facts.to_json(&classes, &classifier, problem, &options);
        let metrics = Arc::new(Metrics::new());
        let limits = BatchLimits { images: options.batch, wait: options.batch_wait };
        let predict = move |pixels| classifier.predict(pixels);
        let (batcher, model_thread) = Batcher::start(predict, limits, &metrics, &log)?;
        let guard = Guard::new(options.addr, &options.hosts, token.map(|token| token.token));
        let state = State::new(Parts {
            model_info: Bytes::from(serde_json::to_vec_pretty(&model_info)?),
            options,
            guard,
            batcher,
            detector,
            classes,
            metrics,
            log,
            cores: cores(),
        });
        Ok(Self { listener, url, state: Arc::new(state), threads: vec![model_thread, log_thread], signals })
    }

    /// Where the service is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves until SIGTERM, SIGINT or SIGHUP, then answers the requests in progress.
    ///
    /// # Errors
    /// If the system gives no threads or sockets; if the thread of the model ends.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores())
            .max_blocking_threads(cores() + 4)
            .enable_all()
            .build()
            .context("cannot start the threads of the service")?;
        let served = runtime.block_on(serve(self.listener, &self.state, &self.signals));
        end(runtime, self.state, &self.threads);
        served
    }
}

/// Ends the threads, so that the last lines of the log are written.
fn end(runtime: Runtime, state: Arc<State>, threads: &[JoinHandle<()>]) {
    // Tasks that were cut off hold the state.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let is_last = Arc::into_inner(state).is_some();
    // A pipe that nobody reads would block the log forever.
    let deadline = Instant::now() + MAX_LOG_TIME;
    while is_last && threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn listen(options: &ServeOptions) -> Result<StdListener> {
    let listener = StdListener::bind(options.addr).map_err(|error| {
        let addr = options.addr;
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                anyhow!("--addr {addr}: another program listens there; end it, or choose another port, or port 0 for a free one")
            }
            std::io::ErrorKind::PermissionDenied => {
                anyhow!("--addr {addr}: the system does not permit it; choose a port from 1024 on")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                anyhow!("--addr {addr}: is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all its addresses")
            }
            _ => anyhow!("--addr {addr}: cannot listen there: {error}"),
        }
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn describe(log: &AccessLog, facts: &RunFacts, no_detector: Option<&String>, url: &str, is_remote: bool) {
    if let Some(problem) = no_detector {
        log.line(&format!("warning: faces=detect is not available: {problem}"));
    }
    if is_remote {
        log.line(
            "warning: other machines reach this service without encryption, so that its token and all images can be read \
             on the way; put a proxy with TLS in front of it, see docs/serving.md",
        );
    }
    log.line(&format!("serving {} on {url}", facts.describe()));
}

async fn serve(listener: StdListener, state: &Arc<State>, signals: &Signals) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("cannot listen")?;
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accept = Acceptor { listener, state: Arc::clone(state), router: router(state), closing };
    let slots = Arc::new(Semaphore::new(state.options.connections));
    let signal = tokio::select! {
        signal = received(signals) => Some(signal),
        () = accept.run(&mut connections, &slots) => None,
        () = state.batcher.ended() => None,
    };
    let reason = signal.map_or("error: the thread of the model has ended", signals::name);
    state.log.line(&format!("{reason}: ending; {} open", count(connections.len(), "connection")));
    state.drain();
    if signal.is_some() {
        let signals = signals.clone();
        tokio::spawn(async move {
            sleep(REPEAT_TIME).await;
            // Without it, the process ends after the requests in progress.
            let _ = signals.exit_at_next();
        });
    }
    // Requests that were sent before the client could know are still answered.
    let _ = timeout(state.options.grace, accept.run(&mut connections, &slots)).await;
    accept.take_backlog(&mut connections, &slots).await;
    drop(accept);
    let _ = close.send(true);
    let cut_off = drain(&mut connections, MAX_DRAIN_TIME).await;
    if cut_off > 0 {
        state.log.line(&format!("warning: {} cut off after {MAX_DRAIN_TIME:?}", count(cut_off, "connection")));
    }
    ensure!(
        state.batcher.is_alive(),
        "the thread of the model ended by a panic, which is reported above; start the service again"
    );
    Ok(())
}

/// Waits until all connections have ended, or `limit`; returns the number of those that have not.
async fn drain(connections: &mut JoinSet<()>, limit: Duration) -> usize {
    let _ = timeout(limit, async { while connections.join_next().await.is_some() {} }).await;
    connections.len()
}

/// Waits for a signal. The program's handlers only set a flag.
async fn received(signals: &Signals) -> i32 {
    loop {
        if let Some(signal) = signals.received() {
            return signal;
        }
        sleep(SIGNAL_INTERVAL).await;
    }
}

/// Counts a connection until it is dropped, also by a panic.
struct OpenConnection<'a>(&'a Gauge);

impl<'a> OpenConnection<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Accepts connections.
struct Acceptor {
    listener: TcpListener,
    state: Arc<State>,
    router: Router,
    closing: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts the connections that the system has completed, which closing the socket would reset,
    /// while it completes no more.
    async fn take_backlog(&self, connections: &mut JoinSet<()>, slots: &Arc<Semaphore>) {
        let limit = socket2::SockRef::from(&self.listener).listen(0);
        if limit.is_ok() {
            let mut before = usize::MAX;
            while before != connections.len() {
                before = connections.len();
                let _ = timeout(BACKLOG_WAIT, self.run(connections, slots)).await;
            }
        }
    }

    /// Accepts connections as long as there are slots for them; others wait in the system's queue.
    async fn run(&self, connections: &mut JoinSet<()>, slots: &Arc<Semaphore>) {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, or a client that has gone already.
                    self.state.log.line(&format!("warning: a connection failed: {error}"));
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (router, closing, state) = (self.router.clone(), self.closing.clone(), Arc::clone(&self.state));
            connections.spawn(async move {
                let _slot = slot;
                let _open = OpenConnection::new(&state.metrics.connections);
                connection::serve(stream, router, state.options.timeout, closing).await;
            });
            // Those that have ended.
            while connections.try_join_next().is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use super::super::options::tests::options;
    use super::*;
    use crate::data::images::PIXELS;
    use crate::metrics::Predictions;

    #[test]
    fn a_connection_that_panics_is_no_longer_counted() {
        let gauge = Gauge::default();
        let panicked = std::panic::catch_unwind(|| {
            let _open = OpenConnection::new(&gauge);
            assert_eq!(gauge.get(), 1);
            panic!("a panic in a connection");
        });
        assert!(panicked.is_err());
        assert_eq!(gauge.get(), 0);
    }

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn connections_that_do_not_end_are_cut_off() {
        runtime().block_on(async {
            let mut connections = JoinSet::new();
            connections.spawn(std::future::pending());
            connections.spawn(sleep(Duration::from_millis(5)));
            assert_eq!(drain(&mut connections, Duration::from_millis(200)).await, 1);
            connections.abort_all();
            assert_eq!(drain(&mut connections, Duration::from_secs(30)).await, 0);
        });
    }

    /// A service whose model fails for black images, and panics for others.
    fn failing_service() -> (StdListener, Arc<State>) {
        let listener = listen(&options("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let (log, _) = AccessLog::start(false).unwrap();
        let metrics = Arc::new(Metrics::new());
        let predict = |pixels: Vec<u8>| -> Result<Predictions> {
            ensure!(pixels.contains(&1), "a failure of the device");
            panic!("a panic of the model")
        };
        let limits = BatchLimits { images: 4, wait: Duration::ZERO };
        let (batcher, _) = Batcher::start(predict, limits, &metrics, &log).unwrap();
        let state = State::new(Parts {
            options: options("127.0.0.1:0"),
            guard: Guard::new(addr, &[], None),
            batcher,
            detector: Err("none".into()),
            classes: vec!["calm".into()],
            model_info: Bytes::new(),
            metrics,
            log,
            cores: 1,
        });
        (listener, Arc::new(state))
    }

    /// Sends a request; returns the response.
    fn ask(addr: SocketAddr, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn a_model_that_fails_is_unhealthy_and_one_that_panics_ends_the_service() {
        let (listener, state) = failing_service();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let image = |value: u8| serde_json::json!({"pixels": [vec![value; PIXELS]]}).to_string();
            for failed in 0..3 {
                assert!(ask(addr, "GET /healthz", "").starts_with("HTTP/1.1 200"), "after {failed} failures");
                assert!(ask(addr, "POST /v1/predict", &image(0)).starts_with("HTTP/1.1 500"));
                std::thread::sleep(Duration::from_millis(50));
            }
            let health = ask(addr, "GET /healthz", "");
            assert!(health.starts_with("HTTP/1.1 500") && health.contains("the last 3 batches failed"), "{health}");
            assert!(ask(addr, "POST /v1/predict", &image(1)).starts_with("HTTP/1.1 500"));
        });
        let signals = Signals::watch().unwrap();
        let served = runtime().block_on(async {
            timeout(Duration::from_secs(60), serve(listener, &state, &signals)).await.expect("the service ends")
        });
        client.join().unwrap();
        let error = served.unwrap_err().to_string();
        assert!(error.contains("the thread of the model ended by a panic"), "{error}");
    }
}
