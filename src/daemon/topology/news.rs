//! What becomes of the ports, for the log: a port that goes on changing is told of now and then.

use std::collections::HashMap;

use crate::told::Told;

/// What was told of each port.
#[derive(Debug, Default)]
pub(super) struct News(HashMap<u32, Port>);

#[derive(Debug, Default)]
struct Port {
    told: Told,
    label: String,
    what: String,
}

impl News {
    /// This has become of a port.
    pub(super) fn info(&mut self, ifindex: u32, label: &str, what: String) {
        if let Some(news) = self.port(ifindex, label, what) {
            tracing::info!("port {label}: {news}");
        }
    }

    /// This is wrong with a port.
    pub(super) fn warn(&mut self, ifindex: u32, label: &str, what: String) {
        if let Some(news) = self.port(ifindex, label, what) {
            tracing::warn!("port {label}: {news}");
        }
    }

    fn port(&mut self, ifindex: u32, label: &str, what: String) -> Option<String> {
        let port = self.0.entry(ifindex).or_default();
        let news = port.told.is(&what);
        (port.label, port.what) = (label.to_owned(), what);
        news
    }

    /// Nothing is to be told of a port any more.
    pub(super) fn ends(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }

    /// Tells what came too soon to be told.
    pub(super) fn catch_up(&mut self) {
        for Port { told, label, what } in self.0.values_mut() {
            if let Some(news) = told.is(what) {
                tracing::info!("port {label}: {news}");
            }
        }
    }

    /// Forgets the ports that are not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.0.retain(|&ifindex, _| is_wanted(ifindex));
    }
}
