//! Where the engines of a pool tell of their KV caches.
//!
//! Nothing in the API of engines says it before they run, so that an annotation of the ModelServer or InferencePool does: the
//! ports that the engines were started with (vLLM and SGLang: `--kv-events-config`), or `discover`, where engines answer
//! `GET /kv_event_sources` (vLLM from 0.33 on).

use std::collections::BTreeMap;

use crate::controller::KV_EVENTS;

/// Where engines tell of their KV caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvEvents {
    /// At these ports of each Pod, to which the data-parallel rank is added.
    Ports {
        /// The port to subscribe to.
        port: u16,
        /// The port to ask for messages again, where there is one.
        replay: Option<u16>,
    },
    /// Where each engine says.
    Discovered,
}

impl KvEvents {
    /// Reads the annotation of an object; `None` where it has none.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<Option<Self>, String> {
        annotations.and_then(|annotations| annotations.get(KV_EVENTS)).map(|text| Self::read(text)).transpose()
    }

    /// Reads the annotation's text.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port > 0);
        let read = match text.split_once('/') {
            None if text == "discover" => Some(Self::Discovered),
            None => port(text).map(|port| Self::Ports { port, replay: None }),
            Some((first, second)) => {
                port(first).zip(port(second)).map(|(port, replay)| Self::Ports { port, replay: Some(replay) })
            }
        };
        read.ok_or_else(|| format!("`{text}` is neither `PORT`, `PORT/REPLAYPORT` nor `discover`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_ports_or_asks_for_them() {
        let of = |text: &str| KvEvents::of(Some(&[(KV_EVENTS.to_owned(), text.to_owned())].into()));
        let ports = |port, replay| Ok(Some(KvEvents::Ports { port, replay }));
        assert_eq!((of("5557"), of("5557/5558")), (ports(5557, None), ports(5557, Some(5558))));
        assert_eq!(of("discover"), Ok(Some(KvEvents::Discovered)));
        for wrong in ["", "0", "70000", "5557/", "tcp://*:5557", "5557/5558/5559"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!((KvEvents::of(None), KvEvents::of(Some(&BTreeMap::new()))), (Ok(None), Ok(None)));
    }
}
