//! What goes wrong on purpose, for all requests or for one.
//!
//! The settings of an engine can be changed while it serves, from its own process or over HTTP; a request header of one
//! directive replaces them for that request.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};

use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

mod plan;

pub(crate) use plan::{Breakage, FAULT_HEADER, FaultPlan};

/// Stands for "after no number of chunks".
const NEVER: u64 = u64::MAX;

/// Why a fault cannot be set.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FaultError {
    /// The error rate is no share.
    #[error("error rate `{0}` is not between 0 and 1")]
    ErrorRate(f64),
    /// The status is not an error.
    #[error("error status `{0}` is not between 400 and 599")]
    ErrorStatus(u16),
    /// The directive of a request is not known.
    #[error("directive `{0}` is none of `status=CODE`, `hang`, `hang-after=N`, `reset` and `reset-after=N`")]
    Directive(String),
}

/// Faults of one engine, read by every request. Safe to change from any thread.
#[derive(Debug)]
pub struct Faults {
    error_rate: AtomicU64,
    error_status: AtomicU16,
    hang: AtomicBool,
    hang_after: AtomicU64,
    reset: AtomicBool,
    reset_after: AtomicU64,
    unready: AtomicBool,
    handover: AtomicU8,
    stall_transfers: AtomicBool,
}

/// What is wrong with the answers of a prefill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverFault {
    /// Nothing.
    #[default]
    None,
    /// They have no `kv_transfer_params`.
    Missing,
    /// They are not JSON.
    Malformed,
    /// They have 10 MB.
    Huge,
}

/// A copy of the settings at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultSettings {
    /// Share of the inference requests that fail, from 0 to 1.
    pub error_rate: f64,
    /// Status of those requests.
    pub error_status: u16,
    /// Whether requests run for ever and never get an answer.
    pub hang: bool,
    /// Chunks of an answer after which it stands still.
    pub hang_after: Option<u64>,
    /// Whether the connection is reset instead of an answer.
    pub reset: bool,
    /// Chunks of an answer after which the connection is reset.
    pub reset_after: Option<u64>,
    /// Whether `/health` answers 503.
    pub unready: bool,
    /// What is wrong with the answers of a prefill.
    pub handover: HandoverFault,
    /// Whether transfers from this engine stand still.
    pub stall_transfers: bool,
}

/// New values of some settings, as JSON; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FaultUpdate {
    error_rate: Option<f64>,
    error_status: Option<u16>,
    hang: Option<bool>,
    #[serde(deserialize_with = "present")]
    hang_after: Option<Option<u64>>,
    reset: Option<bool>,
    #[serde(deserialize_with = "present")]
    reset_after: Option<Option<u64>>,
    unready: Option<bool>,
    handover: Option<HandoverFault>,
    stall_transfers: Option<bool>,
}

impl HandoverFault {
    const ALL: [Self; 4] = [Self::None, Self::Missing, Self::Malformed, Self::Huge];
}

impl Faults {
    /// Makes faults of an error rate; nothing else goes wrong.
    ///
    /// # Errors
    /// When the rate is no share or the status no error.
    pub(crate) fn new(error_rate: f64, error_status: u16) -> Result<Self, FaultError> {
        let faults = Self {
            error_rate: AtomicU64::new(0),
            error_status: AtomicU16::new(500),
            hang: AtomicBool::new(false),
            hang_after: AtomicU64::new(NEVER),
            reset: AtomicBool::new(false),
            reset_after: AtomicU64::new(NEVER),
            unready: AtomicBool::new(false),
            handover: AtomicU8::new(0),
            stall_transfers: AtomicBool::new(false),
        };
        faults.set_error_rate(error_rate)?;
        faults.set_error_status(error_status)?;
        Ok(faults)
    }

    /// Sets the share of inference requests that fail, from 0 to 1.
    ///
    /// # Errors
    /// When the rate is outside of these bounds.
    pub fn set_error_rate(&self, rate: f64) -> Result<(), FaultError> {
        check_rate(rate)?;
        self.error_rate.store(rate.to_bits(), Relaxed);
        Ok(())
    }

    /// Sets the status of requests that fail, from 400 to 599.
    ///
    /// # Errors
    /// When the status is outside of these bounds.
    pub fn set_error_status(&self, status: u16) -> Result<(), FaultError> {
        error_status(status)?;
        self.error_status.store(status, Relaxed);
        Ok(())
    }

    /// Sets whether requests run for ever, before the head of an answer.
    pub fn set_hang(&self, hang: bool) {
        self.hang.store(hang, Relaxed);
    }

    /// Sets after how many chunks an answer stands still. An answer that is not streamed stands still in the middle of
    /// its body, whatever the number.
    pub fn set_hang_after(&self, chunks: Option<u64>) {
        self.hang_after.store(chunks.unwrap_or(NEVER), Relaxed);
    }

    /// Sets whether the connection is reset instead of an answer.
    pub fn set_reset(&self, reset: bool) {
        self.reset.store(reset, Relaxed);
    }

    /// Sets after how many chunks the connection is reset. An answer that is not streamed is reset in the middle of its
    /// body, whatever the number.
    pub fn set_reset_after(&self, chunks: Option<u64>) {
        self.reset_after.store(chunks.unwrap_or(NEVER), Relaxed);
    }

    /// Sets whether `/health` answers 503.
    pub fn set_unready(&self, unready: bool) {
        self.unready.store(unready, Relaxed);
    }

    /// Sets what is wrong with the answers of a prefill.
    pub fn set_handover(&self, fault: HandoverFault) {
        self.handover.store(fault as u8, Relaxed);
    }

    /// Sets whether transfers from this engine stand still.
    pub fn set_stall_transfers(&self, stall: bool) {
        self.stall_transfers.store(stall, Relaxed);
    }

    /// Lets everything go right again; the error status stays.
    pub fn clear(&self) {
        self.error_rate.store(0, Relaxed);
        self.set_hang(false);
        self.set_hang_after(None);
        self.set_reset(false);
        self.set_reset_after(None);
        self.set_unready(false);
        self.set_handover(HandoverFault::None);
        self.set_stall_transfers(false);
    }

    /// Returns a copy of the settings.
    #[must_use]
    pub fn settings(&self) -> FaultSettings {
        FaultSettings {
            error_rate: f64::from_bits(self.error_rate.load(Relaxed)),
            error_status: self.error_status.load(Relaxed),
            hang: self.hang.load(Relaxed),
            hang_after: chunks(&self.hang_after),
            reset: self.reset.load(Relaxed),
            reset_after: chunks(&self.reset_after),
            unready: self.unready.load(Relaxed),
            handover: HandoverFault::ALL[usize::from(self.handover.load(Relaxed))],
            stall_transfers: self.stall_transfers.load(Relaxed),
        }
    }

    /// Sets what the update names, or nothing when one of its values is wrong.
    pub(crate) fn update(&self, update: &FaultUpdate) -> Result<(), FaultError> {
        update.error_rate.map_or(Ok(()), check_rate)?;
        if let Some(status) = update.error_status {
            self.set_error_status(status)?;
        }
        if let Some(rate) = update.error_rate {
            self.set_error_rate(rate)?;
        }
        if let Some(hang) = update.hang {
            self.set_hang(hang);
        }
        if let Some(hang_after) = update.hang_after {
            self.set_hang_after(hang_after);
        }
        if let Some(reset) = update.reset {
            self.set_reset(reset);
        }
        if let Some(reset_after) = update.reset_after {
            self.set_reset_after(reset_after);
        }
        if let Some(unready) = update.unready {
            self.set_unready(unready);
        }
        if let Some(handover) = update.handover {
            self.set_handover(handover);
        }
        if let Some(stall) = update.stall_transfers {
            self.set_stall_transfers(stall);
        }
        Ok(())
    }

    /// Decides what goes wrong with the next request.
    pub(crate) fn plan(&self) -> FaultPlan {
        let rate = f64::from_bits(self.error_rate.load(Relaxed));
        let fails = rate > 0.0 && rand::random_bool(rate);
        let status = fails.then(|| self.error_status.load(Relaxed));
        let refusal = if self.reset.load(Relaxed) {
            Some(Breakage::Reset)
        } else {
            self.hang.load(Relaxed).then_some(Breakage::Hang)
        };
        let hang = chunks(&self.hang_after).map(|after| (after, Breakage::Hang));
        let reset = chunks(&self.reset_after).map(|after| (after, Breakage::Reset));
        FaultPlan {
            status: status.and_then(|status| StatusCode::from_u16(status).ok()),
            refusal,
            cut: hang.into_iter().chain(reset).min_by_key(|(after, _)| *after),
        }
    }
}

fn check_rate(rate: f64) -> Result<(), FaultError> {
    if (0.0..=1.0).contains(&rate) { Ok(()) } else { Err(FaultError::ErrorRate(rate)) }
}

fn error_status(status: u16) -> Result<StatusCode, FaultError> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|code| code.is_client_error() || code.is_server_error())
        .ok_or(FaultError::ErrorStatus(status))
}

fn chunks(setting: &AtomicU64) -> Option<u64> {
    Some(setting.load(Relaxed)).filter(|chunks| *chunks != NEVER)
}

/// Tells a field that is null (unset it) from one that is absent (leave it).
fn present<'de, Source>(source: Source) -> Result<Option<Option<u64>>, Source::Error>
where
    Source: Deserializer<'de>,
{
    Option::deserialize(source).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_only_what_it_names() {
        let faults = Faults::new(0.5, 503).unwrap();
        faults.set_reset_after(Some(4));
        faults.set_hang_after(Some(2));
        let update = serde_json::from_str(r#"{"hang":true,"hang_after":null}"#).unwrap();
        faults.update(&update).unwrap();
        let expected = FaultSettings {
            error_rate: 0.5,
            error_status: 503,
            hang: true,
            hang_after: None,
            reset: false,
            reset_after: Some(4),
            unready: false,
            handover: HandoverFault::None,
            stall_transfers: false,
        };
        assert_eq!(faults.settings(), expected);
    }

    #[test]
    fn a_wrong_value_changes_nothing() {
        let faults = Faults::new(0.0, 500).unwrap();
        let before = faults.settings();
        for text in [r#"{"hang":true,"error_rate":1.5}"#, r#"{"error_rate":1,"error_status":200}"#] {
            let update = serde_json::from_str(text).unwrap();
            assert!(faults.update(&update).is_err(), "{text}");
            assert_eq!(faults.settings(), before, "{text}");
        }
    }

    #[test]
    fn the_earlier_cut_wins() {
        let faults = Faults::new(0.0, 500).unwrap();
        faults.set_hang_after(Some(5));
        faults.set_reset_after(Some(2));
        assert_eq!(faults.plan().cut, Some((2, Breakage::Reset)));
        faults.clear();
        assert_eq!(faults.plan(), FaultPlan::default());
    }
}
