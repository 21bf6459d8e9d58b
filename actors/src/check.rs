//! Checks manifests without serving them.
//!
//! Reports what is wrong with each object by itself, and then what a router would report of all of them together, each
//! with its file and line.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kthena_router::conditions::Condition;
use kthena_router::controller::Controller;
use kthena_router::manifest::{Located, Manifest, read};
use kthena_router::object::{BindState, Kind, ObjectKey};
use kthena_router::plan::{Complaint, Plan, plan};
use kthena_router::world::World;

use crate::cli::Check;
use crate::manifest_directory::list;

/// Where an object stands.
type Places = BTreeMap<(Kind, ObjectKey), (PathBuf, usize)>;

/// What is found, by file and line.
#[derive(Default)]
struct Findings {
    faults: Vec<(PathBuf, usize, String)>,
    notes: Vec<(PathBuf, usize, String)>,
    objects: usize,
}

/// Checks the manifests, prints the findings, and returns 1 if any of them is a fault.
pub fn check(options: &Check) -> ExitCode {
    let mut findings = Findings::default();
    let mut world = World::default();
    let mut places = Places::new();
    for path in &options.paths {
        for file in list(path).unwrap_or_else(|error| findings.unreadable(path, &error)) {
            match std::fs::read_to_string(&file) {
                Ok(text) => findings.absorb(&file, read(&text), &mut world, &mut places),
                Err(error) => drop(findings.unreadable(&file, &error)),
            }
        }
    }
    findings.judge(&mut world, &places, options);
    findings.sort();
    match findings.print(&mut io::stdout().lock()) {
        Ok(()) if findings.faults.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Findings {
    fn unreadable(&mut self, path: &Path, error: &io::Error) -> Vec<PathBuf> {
        self.faults.push((path.to_owned(), 0, format!("cannot be read: {error}")));
        Vec::new()
    }

    /// Takes in what one file holds.
    fn absorb(&mut self, file: &Path, manifest: Manifest, world: &mut World, places: &mut Places) {
        for fault in manifest.faults {
            let field = if fault.path.is_empty() { String::new() } else { format!("`{}`: ", fault.path) };
            self.faults.push((file.to_owned(), fault.line, format!("{field}{}", fault.message)));
        }
        for ignored in manifest.ignored {
            let note = format!("{} `{}` is not read by the router", ignored.kind, ignored.api_version);
            self.notes.push((file.to_owned(), ignored.line, note));
        }
        for Located { line, object, .. } in manifest.objects {
            self.objects += 1;
            let name = (object.kind(), object.key());
            if let Some((first, first_line)) = places.get(&name) {
                let fault = format!("{} `{}` is already in {}:{first_line}", name.0, name.1, first.display());
                self.faults.push((file.to_owned(), line, fault));
            }
            places.insert(name, (file.to_owned(), line));
            world.apply(object);
        }
    }

    /// Adds what a router would report of all objects together.
    fn judge(&mut self, world: &mut World, places: &Places, options: &Check) {
        let controller = Controller {
            gateway_api: options.enable_gateway_api,
            inference_extension: options.enable_gateway_api && options.enable_gateway_api_inference_extension,
            namespace: options.pod_namespace.clone(),
            ..Controller::default()
        };
        // Whether a port can be opened is not for a check to find out.
        let binds = plan(world, &controller).binds;
        world.binds = binds.iter().map(|plan| (plan.bind, BindState::Open)).collect();
        let Plan { reports, .. } = plan(world, &controller);
        for Complaint { kind, key, text } in reports.complaints() {
            self.report(places, kind, &key, &text);
        }
        for (key, report) in &reports.routes {
            report.warnings.iter().for_each(|warning| self.note(places, Kind::ModelRoute, key, warning));
        }
        for (key, report) in &reports.servers {
            // In a directory of manifests for a cluster there are no Pods, which is no fault.
            let conditions = report.conditions.iter().filter(|condition| !condition.status);
            conditions.for_each(|condition| self.note(places, Kind::ModelServer, key, &say(condition)));
            report.warnings.iter().for_each(|warning| self.note(places, Kind::ModelServer, key, warning));
        }
    }

    fn report(&mut self, places: &Places, kind: Kind, key: &ObjectKey, fault: &str) {
        if let Some((file, line)) = places.get(&(kind, key.clone())) {
            let known = self.faults.iter().any(|(other, at, text)| other == file && at >= line && fault.contains(text));
            if !known {
                self.faults.push((file.clone(), *line, format!("{kind} `{key}`: {fault}")));
            }
        }
    }

    fn note(&mut self, places: &Places, kind: Kind, key: &ObjectKey, note: &str) {
        if let Some((file, line)) = places.get(&(kind, key.clone())) {
            self.notes.push((file.clone(), *line, format!("{kind} `{key}`: {note}")));
        }
    }

    fn sort(&mut self) {
        self.faults.sort();
        self.notes.sort();
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (level, findings) in [("note", &self.notes), ("fault", &self.faults)] {
            for (file, line, text) in findings {
                writeln!(out, "{}:{line}: {level}: {text}", file.display())?;
            }
        }
        writeln!(out, "{} objects, {} faults, {} notes", self.objects, self.faults.len(), self.notes.len())
    }
}

fn say(condition: &Condition) -> String {
    let status = if condition.status { "True" } else { "False" };
    format!("{} is {status} ({}): {}", condition.kind, condition.reason, condition.message)
}
