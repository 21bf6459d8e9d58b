//! The metrics that every process has by convention, read from `/proc` whenever they are asked for.

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Reads the metrics of this process.
#[derive(Debug)]
struct ThisProcess;

/// Returns the metrics of this process.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ThisProcess));
    registry
}

impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Where there is no /proc there are none of these metrics.
        let Ok(process) = Process::myself() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
            }
            None => Ok(()),
        };
        let stat = process.stat().ok();
        let started = stat.as_ref().and_then(|stat| Some(boot_time()? + seconds(stat.starttime)));
        let limits = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
        let max_fds = limits.map(|limit| match limit {
            LimitValue::Unlimited => f64::INFINITY,
            LimitValue::Value(value) => float(value),
        });
        gauge(
            "process_resident_memory_bytes",
            "Resident memory in bytes",
            stat.as_ref().map(|stat| float(stat.rss * procfs::page_size())),
        )?;
        let virtual_memory = stat.as_ref().map(|stat| float(stat.vsize));
        gauge("process_virtual_memory_bytes", "Virtual memory in bytes", virtual_memory)?;
        gauge("process_start_time_seconds", "Start time since the epoch in seconds", started)?;
        let fds = process.fd_count().ok().map(|count| float(u64::try_from(count).unwrap_or(u64::MAX)));
        gauge("process_open_fds", "Open file descriptors", fds)?;
        gauge("process_max_fds", "The most file descriptors that may be open", max_fds)?;
        let threads = stat.as_ref().map(|stat| float(u64::try_from(stat.num_threads).unwrap_or_default()));
        gauge("process_threads", "Threads", threads)?;
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(seconds(stat.utime + stat.stime));
            let help = "User and system CPU time in seconds";
            cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        }
        Ok(())
    }
}

fn boot_time() -> Option<f64> {
    procfs::boot_time_secs().ok().map(float)
}

/// Returns the seconds that ticks of the kernel's clock are.
fn seconds(ticks: u64) -> f64 {
    float(ticks) / float(procfs::ticks_per_second())
}

#[expect(clippy::cast_precision_loss, reason = "exact enough beyond 2^53 of anything that a process has")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use crate::ops::metrics::{Format, Metrics};

    #[test]
    fn a_process_tells_of_itself() {
        let page = Metrics::new().encode(Format::Text).unwrap();
        for (name, least) in [
            ("process_resident_memory_bytes", 1_000_000.0),
            ("process_start_time_seconds", 1_600_000_000.0),
            ("process_open_fds", 3.0),
            ("process_threads", 1.0),
            ("process_cpu_seconds_total", 0.0),
        ] {
            let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            assert!(line[name.len()..].trim().parse::<f64>().unwrap() >= least, "{line}");
        }
        assert!(page.contains("kthena_router_build_info{version="));
    }
}
