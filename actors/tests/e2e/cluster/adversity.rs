//! An API server that falls silent, forgets, restarts, or does not have or show a kind.

use std::time::Duration;

use actix_web::test;

use super::Setting;
use super::objects::{model_route, model_server, pod};
use crate::api_server::ApiServer;
use crate::changes::Load;
use crate::harness::{Network, PORT};

fn one_route(api: &ApiServer) {
    api.put(model_route("r", "served", "m"));
}

#[test]
async fn a_deletion_that_a_silent_watch_missed_heals() {
    let setting = Setting::new(&["--watch-silence-timeout=300ms"], one_route).await;
    setting.serves("served").await;
    setting.api.silence("ModelRoute");
    setting.api.delete("ModelRoute", "r");
    setting.api.put(model_route("late", "late", "m"));
    setting.forgets("served").await;
    setting.serves("late").await;
}

#[test]
async fn a_watch_with_bookmarks_only_is_kept() {
    let setting = Setting::new(&["--watch-silence-timeout=1s"], |api| {
        one_route(api);
        api.bookmark_every(Duration::from_millis(50));
        api.silence("Pod");
    })
    .await;
    let lists = |kind| setting.api.requests("list", kind);
    setting.harness.until("the silent kind was listed again twice", async || lists("Pod") >= 3).await;
    assert_eq!(["ModelRoute", "ModelServer"].map(lists), [1, 1]);
}

#[test]
async fn a_watch_whose_past_is_forgotten_lists_again() {
    let setting = Setting::new(&[], one_route).await;
    setting.serves("served").await;
    setting.api.silence("ModelRoute");
    setting.api.delete("ModelRoute", "r");
    setting.api.put(model_route("late", "late", "m"));
    setting.makes_plans(1).await;
    assert_eq!(setting.harness.complete("served").await.status, 200, "what is missed is not known");
    setting.api.forget();
    setting.forgets("served").await;
    setting.serves("late").await;
}

#[test]
async fn traffic_goes_on_without_the_api_server_and_its_changes_are_served_when_it_is_back() {
    for forgets in [false, true] {
        let mut setting = Setting::new(&[], one_route).await;
        setting.serves("served").await;
        let load = Load::start(&setting.harness, PORT, "served", 2);
        setting.api.stop().await;
        load.goes_on(&setting.harness, 20).await;
        assert_eq!(setting.harness.readyz().await.status, 200, "forgets: {forgets}");
        setting.api.put(model_route("late", "late", "m"));
        if forgets {
            setting.api.forget();
        }
        setting.api.restart();
        setting.serves("late").await;
        setting.api.has_condition("ModelRoute", "late", "Accepted", ("True", "Accepted")).await;
        let tally = load.tally().await;
        assert_eq!(tally.keys().collect::<Vec<_>>(), ["m"], "forgets: {forgets}: {tally:?}");
    }
}

#[test]
async fn an_api_server_that_is_not_there_yet_is_waited_for() {
    let network = Network::new();
    let _engine = network.engine(10, "m").await;
    let mut api = ApiServer::start(network.host(200));
    api.put(model_server("m", "m"));
    api.put(pod("m-0", "m", network.host(10)));
    one_route(&api);
    api.stop().await;
    let harness = network.launch(Some(api.config()), &[]).await;
    let readiness = async || harness.readyz().await.text();
    let waits = "[-] objects listed: waiting for the first list of: ModelRoute, ModelServer, Pod\n";
    harness.until("it says what it waits for", async || readiness().await.contains(waits)).await;
    api.restart();
    let setting = Setting { api, harness, _engine };
    setting.ready().await;
    setting.serves("served").await;
}

#[test]
async fn a_kind_that_is_unknown_at_the_start_is_waited_for() {
    let setting = Setting::new(&[], |api| {
        one_route(api);
        api.hide("ModelServer");
    })
    .await;
    assert_eq!(setting.harness.complete("served").await.status, 503, "the ModelServer is not there");
    setting.api.allow("ModelServer");
    setting.serves("served").await;
}

#[test]
async fn a_kind_that_vanishes_stays_in_use_for_a_while_and_is_listed_once_it_is_back() {
    let setting = Setting::new(&[], one_route).await;
    setting.serves("served").await;
    setting.api.hide("ModelRoute");
    let lists = || setting.api.requests("list", "ModelRoute");
    setting.harness.until("the kind is looked for", async || lists() >= 3).await;
    assert_eq!(setting.harness.complete("served").await.status, 200, "an API server that starts may lack it");
    setting.api.silence("ModelRoute");
    setting.api.delete("ModelRoute", "r");
    setting.api.put(model_route("late", "late", "m"));
    setting.api.allow("ModelRoute");
    setting.forgets("served").await;
    setting.serves("late").await;
}

#[test]
async fn a_kind_that_is_unknown_or_forbidden_is_asked_for_with_pauses() {
    let setting = Setting::unready(&["--watch-silence-timeout=200ms"], |api| {
        api.hide("ModelRoute");
        api.forbid("ModelServer");
    })
    .await;
    let lists = |kind| setting.api.requests("list", kind);
    // Four silences take at least 0.8 s; a pause that doubles from 100 ms on leaves time for four or five tries.
    setting.harness.until("five lists of the Pods were asked for", async || lists("Pod") >= 5).await;
    for kind in ["ModelRoute", "ModelServer"] {
        assert!(lists(kind) <= 2 * lists("Pod"), "{kind}: {} tries", lists(kind));
    }
}

#[test]
async fn a_forbidden_kind_is_named_and_keeps_the_router_from_being_ready() {
    let setting = Setting::unready(&[], |api| {
        one_route(api);
        api.forbid("ModelServer");
    })
    .await;
    let readiness = async || setting.harness.readyz().await.text();
    let waits = "[-] objects listed: waiting for the first list of: ModelServer\n";
    setting.harness.until("it says what it waits for", async || readiness().await.contains(waits)).await;
    let page = setting.harness.readyz().await;
    assert_eq!(page.status, 503, "{}", page.text());
    assert!(!setting.is_open(PORT), "half a world is not served");
    setting.api.allow("ModelServer");
    setting.ready().await;
    setting.serves("served").await;
}

#[test]
async fn a_kind_that_is_forbidden_later_leaves_what_is_known_in_use() {
    let setting = Setting::new(&[], one_route).await;
    setting.serves("served").await;
    let before = setting.api.requests("watch", "ModelServer");
    setting.api.forbid("ModelServer");
    let tries = || setting.api.requests("watch", "ModelServer");
    setting.harness.until("it was refused", async || tries() >= before + 2).await;
    setting.api.put(model_route("late", "late", "m"));
    setting.serves("late").await;
    assert_eq!(setting.harness.readyz().await.status, 200);
    setting.api.put(model_server("late", "late"));
    setting.api.allow("ModelServer");
    let known = async || setting.harness.registry().await.objects["ModelServer"];
    setting.harness.until("the new ModelServer is known", async || known().await == 2).await;
}
