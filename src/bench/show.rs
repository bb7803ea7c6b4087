//! Progress on the terminal, while it runs. Where stderr is none, nothing is shown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use switchboard::load::{Progress, Scenario};

use super::arguments::Kind;

/// Between two drawings.
const TICK: Duration = Duration::from_millis(200);

/// Bars that move until this is dropped.
pub struct Bar {
    ending: Option<mpsc::Sender<()>>,
    drawing: Option<thread::JoinHandle<()>>,
}

impl Bar {
    /// Shows how a run comes on: first its clients, then its time.
    pub fn start(kind: &Kind, length: Duration, progress: &Arc<Progress>) -> Self {
        let bars = MultiProgress::new();
        let style = |text: &str| ProgressStyle::with_template(text).expect("the template is fine").progress_chars("━╸─");
        let clients = bars.add(ProgressBar::new(kind.connections() as u64));
        clients.set_style(style("clients  {bar:40} {pos}/{len}"));
        // Those that are over when their clients are in, or back, have no time of their own.
        let (time, is_back) = match kind {
            Kind::Engine(Scenario::Connect { .. }) => (None, false),
            Kind::Engine(_) => (Some(bars.add(ProgressBar::new(length.as_micros() as u64))), false),
            Kind::Resume { clients } => (Some(bars.add(ProgressBar::new(*clients as u64))), true),
        };
        if let Some(time) = &time {
            time.set_style(style(if is_back { "back     {bar:40} {pos}/{len}" } else { "time     {bar:40} {msg}" }));
        }
        let (ending, ended) = mpsc::channel();
        let progress = progress.clone();
        let drawing = thread::spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
                clients.set_position(of(&progress.connected));
                let Some(time) = &time else { continue };
                if is_back {
                    time.set_position(of(&progress.arrived));
                } else {
                    time.set_position(of(&progress.elapsed).min(length.as_micros() as u64));
                    time.set_message(format!("{:.0} s, {} delivered", of(&progress.elapsed) as f64 / 1e6, of(&progress.arrived)));
                }
            }
            // Its lines make room for the report.
            let _ = bars.clear();
        });
        Self { ending: Some(ending), drawing: Some(drawing) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        drop(self.ending.take());
        if let Some(drawing) = self.drawing.take() {
            // It has nothing to fail at.
            let _ = drawing.join();
        }
    }
}
