//! `kthena-router check`, and what it says of the examples.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::harness::{Network, PORT, client, gateway_yaml, route_with, route_yaml};
use crate::process::{Process, quickstart};

#[actix_web::test]
async fn the_quickstart_has_no_faults() {
    let directory = quickstart().display().to_string();
    let (code, printed, complaints) = Process::run(&["check", &directory], &[]).await;
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{printed}");
    assert!(printed.ends_with("8 objects, 0 faults, 0 warnings\n"), "{printed}");
    let elsewhere: [(&[&str], &[_]); 2] = [
        (&["check", &directory, "--pod-namespace=other"], &[]),
        (&["check", &directory], &[("POD_NAMESPACE", "other")]),
    ];
    for (arguments, environment) in elsewhere {
        let (code, printed, _) = Process::run(arguments, environment).await;
        assert_eq!(code, Some(1), "{printed}");
        let gateways = "the Gateways of this router are `default/kthena-gateway-8081`, `other/default`";
        assert!(printed.contains(gateways), "{printed}");
    }
}

#[actix_web::test]
async fn faults_of_manifests_are_printed_with_file_and_line() {
    let network = Network::new();
    let file = |name: &str| network.directory().join(name).display().to_string();
    network.model_server("a", "a", &[10]);
    network.write("good.yaml", &route_yaml("good", "good", "a"));
    network.write("1-syntax.yaml", "kind: ModelRoute\nmetadata: {name: x\n");
    network.write("2-type.yaml", &route_yaml("typed", "typed", "a").replace("rules:", "rules: none\n  extra:"));
    let regex = "- modelMatch: {headers: {x: {regex: \"(\"}}}\n  targetModels: [{modelServerName: a}]";
    network.write("3-regex.yaml", &route_with("regex", "modelName: regex", "default", regex));
    network.write("4-again.yaml", &route_yaml("good", "good", "a"));
    network.write("5-nowhere.yaml", &route_yaml("nowhere", "nowhere", "missing"));
    network.write("6-conflict.yaml", &gateway_yaml("twice", &[(8081, None), (8081, None)]));
    let directory = network.directory().display().to_string();
    let (code, printed, _) = Process::run(&["check", &directory, "--pod-namespace=default"], &[]).await;
    assert_eq!(code, Some(1), "{printed}");
    for (name, line, text) in [
        ("1-syntax.yaml", 2, "unclosed bracket"),
        ("2-type.yaml", 7, "spec.rules"),
        ("3-regex.yaml", 8, "spec.rules[0].modelMatch.headers"),
        ("good.yaml", 1, "4-again.yaml:1"),
        ("5-nowhere.yaml", 1, "default/missing"),
        ("6-conflict.yaml", 1, "Conflicted"),
    ] {
        let start = format!("{}:{line}: fault: ", file(name));
        let found = printed.lines().any(|found| found.starts_with(&start) && found.contains(text));
        assert!(found, "`{start}…{text}` is printed:\n{printed}");
    }
    assert!(!printed.contains(&file("server-a.yaml")), "{printed}");
}

#[actix_web::test]
async fn the_schedulers_file_is_checked_as_the_router_would_read_it() {
    let network = Network::new();
    let file = network.directory().join("scheduler.yaml").display().to_string();
    let option = format!("--scheduler-config={file}");
    for (text, code, finding) in [
        ("scheduler:\n  plugins:\n    Score:\n      enabled: [{name: random, weight: 1}]\n", 0, String::new()),
        (
            "scheduler:\n  plugins:\n    Score:\n      enabled: [{name: leastrequest, weight: 1}]\n",
            1,
            format!("{file}: fault: line 4: `scheduler.plugins.Score.enabled`: there is no plugin `leastrequest`"),
        ),
        ("auth: {issuer: x}\n", 1, format!("{file}: fault: line 1: `auth`: requests are not authenticated here")),
    ] {
        network.write("scheduler.yaml", text);
        let (exit, printed, _) = Process::run(&["check", &option], &[]).await;
        assert_eq!(exit, Some(code), "{printed}");
        assert!(printed.contains(&finding), "`{finding}` is printed: {printed}");
    }
}

#[actix_web::test]
async fn a_check_that_looks_at_nothing_is_a_fault() {
    let network = Network::new();
    let directory = network.directory().display().to_string();
    fs::create_dir(network.directory().join("inner")).unwrap();
    let (code, printed, _) = Process::run(&["check", &directory], &[]).await;
    assert_eq!(code, Some(1), "{printed}");
    for expected in [
        format!("{directory}: fault: there are no manifests here"),
        format!("{directory}/inner: warning: directories inside a directory of manifests are not read"),
        "0 objects, 1 fault, 1 warning\n".to_owned(),
    ] {
        assert!(printed.contains(&expected), "`{expected}`: {printed}");
    }
    let missing = network.directory().join("missing").display().to_string();
    let (code, printed, _) = Process::run(&["check", &missing], &[]).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.starts_with(&format!("{missing}: fault: cannot be read: ")), "no line of what has none: {printed}");
}

#[actix_web::test]
async fn a_check_reads_the_standard_input() {
    let network = Network::new();
    network.write("input", &route_yaml("good", "good", "missing"));
    let input = File::open(network.directory().join("input")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kthena-router"))
        .args(["check", "-", "--pod-namespace=default"])
        .env_clear()
        .stdin(input)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.starts_with("<stdin>:1: fault: ModelRoute `default/good`: "), "{printed}");
    assert!(printed.contains("default/missing"), "{printed}");
}

#[actix_web::test]
async fn the_examples_are_served_as_they_are() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gateway-api").display().to_string();
    let (code, printed, _) = Process::run(&["check", &examples], &[]).await;
    assert_eq!(code, Some(0), "{printed}");
    let network = Network::new();
    for entry in fs::read_dir(quickstart()).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), network.directory().join(entry.file_name())).unwrap();
    }
    // The engines are not there; that a request gets as far as to them is what counts.
    let _process = Process::serve(&network, &[], &["--pod-namespace=kthena-system"], &[]).await;
    for port in [PORT, 8081] {
        let url = format!("http://{}:{port}/v1/models", network.host(1));
        let mut answer = client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.body().await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("deepseek-r1"), "{body:?}");
    }
}
