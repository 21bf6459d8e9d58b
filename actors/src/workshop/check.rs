//! Checks manifests without serving them.
//!
//! Reports what is wrong with each object by itself, then what a router would report of all of them together, and what is
//! valid and yet cannot be meant, each with its file and line. The scheduler's file is looked at if it is named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kthena_router::advice::{Advice, Severity, advise};
use kthena_router::conditions::reason;
use kthena_router::config::{DEFAULT_DEBUG_PORT, DEFAULT_METRICS_PORT};
use kthena_router::controller::Controller;
use kthena_router::manifest::{Located, Manifest, read};
use kthena_router::object::{BindState, Kind, ObjectKey};
use kthena_router::plan::{Complaint, Plan, plan};
use kthena_router::scheduling::profiles::Profiles;
use kthena_router::world::World;

use crate::control::manifest_directory::list;
use crate::serve::complain;
use crate::workshop::cli::Check;
use crate::workshop::explain::explain_offline;

/// The path that stands for the standard input.
const STANDARD_INPUT: &str = "-";

/// The ports that a router opens for itself, each with the flag that sets it.
const OWN_PORTS: [(u16, &str); 2] = [(DEFAULT_METRICS_PORT, "--metrics-port"), (DEFAULT_DEBUG_PORT, "--debug-port")];

/// An object.
type Name = (Kind, ObjectKey);

/// Where the objects stand.
type Places = BTreeMap<Name, (PathBuf, Located)>;

/// Something that is found: its file, its line if it is about one, and what is to be said.
type Finding = (PathBuf, Option<usize>, String);

/// What is found, by how bad it is.
#[derive(Default)]
struct Findings {
    faults: BTreeSet<Finding>,
    warnings: BTreeSet<Finding>,
    notes: BTreeSet<Finding>,
    objects: usize,
}

/// Checks the manifests, prints the findings, and returns 1 if any of them is a fault.
pub fn check(options: &Check) -> ExitCode {
    let mut findings = Findings::default();
    let mut world = World::default();
    let mut places = Places::new();
    for path in &options.paths {
        for file in findings.files(path) {
            let (name, text) = match file.to_str() {
                Some(STANDARD_INPUT) => (PathBuf::from("<stdin>"), io::read_to_string(io::stdin().lock())),
                Some(_) | None => (file.clone(), std::fs::read_to_string(&file)),
            };
            match text {
                Ok(text) => findings.absorb(&name, read(&text), &mut world, &mut places),
                Err(error) => findings.unreadable(&name, &error),
            }
        }
    }
    let profiles = options.scheduler_config.as_ref().and_then(|path| findings.absorb_scheduler(path));
    let profiles = profiles.unwrap_or_default();
    let plan = findings.judge(&mut world, &places, &profiles, options);
    let explained = options.request.as_ref().map(|body| explain_offline(plan, &profiles, body, &options.explained));
    let explained = match explained.transpose() {
        Ok(explained) => explained.map_or_else(String::new, |explanation| format!("{explanation}\n")),
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let out = &mut io::stdout().lock();
    match out.write_all(explained.as_bytes()).and_then(|()| findings.print(out)) {
        Ok(()) if findings.faults.is_empty() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

impl Findings {
    /// Looks at the file that says how endpoints are rated.
    fn absorb_scheduler(&mut self, path: &Path) -> Option<Profiles> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.unreadable(path, &error);
                return None;
            }
        };
        match Profiles::parse(&text) {
            Ok(config) => {
                self.warnings.extend(config.warnings().map(|text| (path.to_owned(), None, text.clone())));
                Some(config)
            }
            Err(error) => {
                self.faults.insert((path.to_owned(), None, error.to_string()));
                None
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.faults.insert((path.to_owned(), None, format!("cannot be read: {error}")));
    }

    /// Lists the files that a path stands for, as the router would.
    fn files(&mut self, path: &Path) -> Vec<PathBuf> {
        if path == Path::new(STANDARD_INPUT) || path.is_file() {
            return vec![path.to_owned()];
        }
        match list(path).and_then(|files| Ok((files, directories(path)?))) {
            Ok((files, directories)) => {
                for directory in directories {
                    let warning = "directories inside a directory of manifests are not read";
                    self.warnings.insert((directory, None, warning.to_owned()));
                }
                if files.is_empty() {
                    let fault = "there are no manifests here: files are read that end in .yaml, .yml or .json";
                    self.faults.insert((path.to_owned(), None, fault.to_owned()));
                }
                files
            }
            Err(error) => {
                self.unreadable(path, &error);
                Vec::new()
            }
        }
    }

    /// Takes in what one file holds.
    fn absorb(&mut self, file: &Path, manifest: Manifest, world: &mut World, places: &mut Places) {
        for fault in manifest.faults {
            let field = if fault.path.is_empty() { String::new() } else { format!("`{}`: ", fault.path) };
            self.faults.insert((file.to_owned(), Some(fault.line), format!("{field}{}", fault.message)));
        }
        for ignored in manifest.ignored {
            let note = format!("{} `{}` is not read by the router", ignored.kind, ignored.api_version);
            self.notes.insert((file.to_owned(), Some(ignored.line), note));
        }
        for located in manifest.objects {
            self.objects += 1;
            let name = (located.object.kind(), located.object.key());
            if let Some((first, other)) = places.get(&name) {
                let fault = format!("{} `{}` is already in {}:{}", name.0, name.1, first.display(), other.line);
                self.faults.insert((file.to_owned(), Some(located.line), fault));
            }
            world.apply(located.object.clone());
            places.insert(name, (file.to_owned(), located));
        }
    }

    /// Adds what a router would report of all objects together, and what cannot be meant.
    fn judge(&mut self, world: &mut World, places: &Places, profiles: &Profiles, options: &Check) -> Plan {
        let controller = Controller {
            gateway_api: options.enable_gateway_api,
            inference_extension: options.enable_gateway_api && options.enable_gateway_api_inference_extension,
            namespace: options.pod_namespace.clone(),
            profiles: profiles.names(),
            ..Controller::default()
        };
        // Whether a port can be opened is not for a check to find out.
        let binds = plan(world, &controller).binds;
        world.binds = binds.iter().map(|plan| (plan.bind, BindState::Open)).collect();
        let plan = plan(world, &controller);
        let advice = advise(world, &plan, &controller, &OWN_PORTS);
        let advised: BTreeSet<_> = advice.iter().filter(|advice| is_about_parents(advice)).map(name_of).collect();
        for advice in &advice {
            self.advise(places, advice);
        }
        self.report(places, &plan, &advised);
        plan
    }

    fn advise(&mut self, places: &Places, advice: &Advice) {
        let Some((file, located)) = places.get(&name_of(advice)) else { return };
        let field = if advice.path.is_empty() { String::new() } else { format!("`{}`: ", advice.path) };
        let text = format!("{} `{}`: {field}{}", advice.kind, advice.key, advice.text);
        let findings = match advice.severity {
            Severity::Warning => &mut self.warnings,
            Severity::Fault => &mut self.faults,
        };
        findings.insert((file.clone(), Some(located.line_of(&advice.path)), text));
    }

    /// Adds the bad news in the reports, but for what was said of the parents of the objects `advised`.
    fn report(&mut self, places: &Places, plan: &Plan, advised: &BTreeSet<Name>) {
        let Plan { reports, .. } = plan;
        for Complaint { kind, key, text } in reports.complaints() {
            let name = (kind, key);
            if !(advised.contains(&name) && text.contains(reason::NO_MATCHING_PARENT)) {
                self.complain(places, &name, &text);
            }
        }
        for Complaint { kind, key, text } in reports.unserved() {
            self.warn(places, (kind, &key), &text);
        }
        // In a directory of manifests for a cluster there are no Pods, which is no fault.
        let empty = reports.servers.iter().filter(|(_, report)| report.ready.reason == reason::NO_READY_ENDPOINTS);
        for (key, report) in empty {
            self.warn(places, (Kind::ModelServer, key), &report.ready.message);
        }
    }

    fn complain(&mut self, places: &Places, name: &Name, fault: &str) {
        let Some((file, located)) = places.get(name) else { return };
        // What is wrong with an object by itself has been said with the line of its field.
        let known = self.faults.iter().any(|(other, line, text)| {
            other == file && line.is_some_and(|line| line >= located.line) && fault.contains(text)
        });
        if !known {
            let (kind, key) = name;
            self.faults.insert((file.clone(), Some(located.line), format!("{kind} `{key}`: {fault}")));
        }
    }

    fn warn(&mut self, places: &Places, (kind, key): (Kind, &ObjectKey), warning: &str) {
        if let Some((file, located)) = places.get(&(kind, key.clone())) {
            self.warnings.insert((file.clone(), Some(located.line), format!("{kind} `{key}`: {warning}")));
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (level, findings) in [("note", &self.notes), ("warning", &self.warnings), ("fault", &self.faults)] {
            for (file, line, text) in findings {
                let line = line.map_or_else(String::new, |line| format!(":{line}"));
                writeln!(out, "{}{line}: {level}: {text}", file.display())?;
            }
        }
        let (objects, faults) = (count(self.objects, "object"), count(self.faults.len(), "fault"));
        writeln!(out, "{objects}, {faults}, {}", count(self.warnings.len(), "warning"))
    }
}

/// Returns the directories inside a directory, but for hidden ones, by which Kubernetes mounts ConfigMaps.
fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn name_of(advice: &Advice) -> Name {
    (advice.kind, advice.key.clone())
}

fn is_about_parents(advice: &Advice) -> bool {
    advice.path.starts_with("spec.parentRef")
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
