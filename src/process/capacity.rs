//! Whether this machine can carry what the config promises: descriptors, accept queue, source ports, CPU quota.
//! It only warns, at the start and in one line each; nothing is refused for it.

use std::fs;

use crate::plan::{Plan, carried_by};
use crate::upstream::EntryPlace;

/// Says what will run short before `connections-max` is reached.
pub(super) fn warn(plan: &Plan, descriptors: u64) {
    for warning in shortages(plan, descriptors, &Machine::read()) {
        tracing::warn!("{warning}");
    }
}

/// What the system allows.
struct Machine {
    accept_queue: Option<u32>,
    source_ports: Option<u32>,
    cpu_quota: Option<f64>,
}

impl Machine {
    fn read() -> Machine {
        Machine {
            accept_queue: read("/proc/sys/net/core/somaxconn")
                .and_then(|text| text.trim().parse().ok()),
            source_ports: read("/proc/sys/net/ipv4/ip_local_port_range")
                .and_then(|text| port_count(&text)),
            cpu_quota: read("/sys/fs/cgroup/cpu.max").and_then(|text| cpu_quota(&text)),
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn port_count(range: &str) -> Option<u32> {
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.checked_sub(first)? + 1)
}

/// CPUs that a control group may use at a time (cgroup v2, `cpu.max`: quota and period in microseconds).
fn cpu_quota(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    Some(words.next()?.ok()? / words.next()?.ok()?)
}

/// Descriptors that carry so many connections.
fn needed_for(connections: u32) -> u64 {
    let mut descriptors = 2 * u64::from(connections);
    while carried_by(descriptors) < connections {
        descriptors += 64;
    }
    descriptors
}

fn shortages(plan: &Plan, descriptors: u64, machine: &Machine) -> Vec<String> {
    let mut found = Vec::new();
    let max = plan.connections_max;
    let carried = carried_by(descriptors.saturating_sub(plan.open_files));
    if max > carried {
        let needed = needed_for(max) + plan.open_files;
        found.push(format!(
            "connections-max is {max}, but {descriptors} descriptors carry about {carried} connections: further clients have to wait, or end as out-of-resources. Raise the hard limit to {needed} before the start: `ulimit -n {needed}`, LimitNOFILE={needed} of systemd"
        ));
    }
    if let Some(limit) = machine.accept_queue {
        for listener in plan.listeners.iter().filter(|listener| listener.listen.backlog > limit) {
            let (name, backlog) = (&listener.name, listener.listen.backlog);
            found.push(format!(
                "[tcp.{name}] backlog is {backlog}, but the system allows {limit}: raise net.core.somaxconn"
            ));
        }
    }
    if let Some(ports) = machine.source_ports {
        for upstream in &plan.upstreams {
            let named = |place: &EntryPlace| matches!(place, EntryPlace::Named { .. });
            let backends = upstream.rules.entries.len().max(1) as u64;
            let sources = upstream.rules.sources.len().max(1) as u64;
            let carried = u64::from(ports) * backends * sources;
            if u64::from(max) > carried
                && !upstream.rules.entries.iter().any(|entry| named(&entry.place))
            {
                let name = &upstream.rules.name;
                found.push(format!(
                    "[upstream.{name}] {carried} source ports cannot carry connections-max = {max}: add `source` addresses"
                ));
            }
        }
    }
    if let Some(quota) = machine.cpu_quota
        && (plan.workers as f64) > quota.ceil()
    {
        found.push(format!(
            "{} workers share a CPU quota of {quota:.1}: set workers = {:.0}",
            plan.workers,
            quota.ceil()
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn every_shortage_is_named_with_its_remedy() {
        let config = Config::parse(
            "[process]\nworkers = 4\nconnections-max = 100_000\n[upstream.app]\nbackends = \"127.0.0.1:1\"\n\
             [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n",
        )
        .unwrap();
        let plan = Plan::compile(&config, 1024);
        let small =
            Machine { accept_queue: Some(128), source_ports: Some(28_232), cpu_quota: Some(1.5) };
        let found = shortages(&plan, 1024, &small).join("\n");
        for remedy in ["ulimit -n", "net.core.somaxconn", "`source` addresses", "workers = 2"] {
            assert!(found.contains(remedy), "{remedy} is missing in:\n{found}");
        }
        let large =
            Machine { accept_queue: Some(4096), source_ports: Some(200_000), cpu_quota: None };
        assert!(shortages(&plan, 1_000_000, &large).is_empty());
    }

    #[test]
    fn the_limit_that_is_asked_for_is_enough_and_no_waste() {
        for connections in [1, 100, 10_000, 1_000_000] {
            let needed = needed_for(connections);
            assert!(carried_by(needed) >= connections, "{connections}");
            assert!(needed < 2 * u64::from(connections) * 10 / 8 + 256, "{connections}: {needed}");
        }
    }

    #[test]
    fn the_systems_files_are_read_as_they_are_written() {
        assert_eq!(port_count("32768\t60999\n"), Some(28_232));
        assert_eq!(cpu_quota("150000 100000\n"), Some(1.5));
        assert_eq!(cpu_quota("max 100000\n"), None);
    }
}
