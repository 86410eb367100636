//! Calls a target at a fixed pace, whatever it answers: what a call waits when nothing is crowded.
#![expect(
    clippy::disallowed_types,
    reason = "there is no tokio here, and no test that pauses the clock"
)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::field::CallTo;
use super::load::BODY;
use crate::process::Failed;

/// Connections, each with a thread that sends at its own times and blocks in between.
const CONNECTIONS: u32 = 16;

/// Calls `rate` times a second; answers with the median in microseconds.
///
/// A wait is counted from when its call was due, so that a slow answer also counts for the calls behind it.
pub(super) fn keep(call: &CallTo, rate: f64, time: Duration) -> Result<f64, Failed> {
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let barrier = Barrier::new(CONNECTIONS.try_into().unwrap_or(1));
    let waits = scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let barrier = &barrier;
                let offset = every * number / CONNECTIONS;
                scope.spawn(move || one(call, barrier, offset, every, time))
            })
            .collect();
        let mut waits = Vec::new();
        for thread in threads {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            waits.extend(ended?);
        }
        Ok::<_, io::Error>(waits)
    });
    let mut waits = waits.map_err(|error| {
        Failed::Lacks(format!(
            "`{}` can't be called at a fixed pace: {error}",
            call.address
        ))
    })?;
    waits.sort_unstable();
    let middle = waits.get(waits.len() / 2).copied().unwrap_or_default();
    Ok(middle.as_secs_f64() * 1e6)
}

fn one(
    call: &CallTo,
    barrier: &Barrier,
    offset: Duration,
    every: Duration,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    let connected = TcpStream::connect(call.address).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    });
    barrier.wait();
    let mut stream = connected?;
    let message = message(call);
    let start = Instant::now();
    let mut due = start + offset;
    let mut waits = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    while due < start + time {
        sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(message.as_bytes())?;
        take(&mut stream, &mut answer)?;
        waits.push(due.elapsed());
        due += every;
    }
    Ok(waits)
}

fn message(call: &CallTo) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n{BODY}",
        call.path,
        call.address,
        call.token,
        BODY.len()
    )
}

/// Reads one answer that has a length.
fn take(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend(chunk.iter().take(length));
        if let Some(whole) = whole(answer)
            && answer.len() >= whole
        {
            return Ok(());
        }
    }
}

/// How long the whole answer is, once its head is in.
fn whole(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(answer.get(..end)?).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Some(usize::MAX);
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + length.trim().parse::<usize>().ok()?)
}
