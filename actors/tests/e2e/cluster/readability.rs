//! One object that cannot be read is left out, and nothing else is.

use actix_web::test;

use super::Setting;
use super::objects::{model_route, model_server, pod, unreadable_model_server};
use crate::api_server::ApiServer;

async fn is_reported(setting: &Setting, name: &str) {
    let events = || setting.api.events("ModelServer", name);
    let reported =
        async || events().iter().any(|(reason, note)| reason == "Unreadable" && note.contains("spec.workloadPort"));
    setting.harness.until("an Event says what is wrong with it", reported).await;
}

fn two_servers(api: &ApiServer) {
    api.put(unreadable_model_server("bad"));
    api.put(model_route("r", "served", "m"));
    api.put(model_route("other", "other", "bad"));
}

#[test]
async fn an_unreadable_object_is_left_out_of_the_first_list() {
    let setting = Setting::new(&[], two_servers).await;
    setting.serves("served").await;
    assert_eq!(setting.harness.complete("other").await.status, 503);
    assert_eq!(setting.harness.registry().await.objects["ModelServer"], 1);
    let mut server = model_server("bad", "m");
    server["spec"]["workloadSelector"]["matchLabels"]["app"] = "m".into();
    setting.api.put(server);
    setting.serves("other").await;
}

#[test]
async fn an_unreadable_object_of_the_first_list_is_reported_by_an_event() {
    let setting = Setting::new(&[], two_servers).await;
    is_reported(&setting, "bad").await;
}

#[test]
async fn an_object_that_becomes_unreadable_stays_as_it_was_even_in_a_new_list() {
    let setting = Setting::new(&[], |api| api.put(model_route("r", "served", "m"))).await;
    let api = &setting.api;
    api.has_condition("ModelServer", "m", "Ready", ("True", "Ready")).await;
    api.put(unreadable_model_server("m"));
    is_reported(&setting, "m").await;
    setting.serves("served").await;

    let lists = api.requests("list", "ModelServer");
    api.forget();
    setting.harness.until("it was listed again", async || api.requests("watch", "ModelServer") > lists).await;
    api.put(model_server("later", "m"));
    let known = async || setting.harness.registry().await.objects["ModelServer"];
    setting.harness.until("a later change is known", async || known().await == 2).await;
    setting.serves("served").await;

    api.put(pod("m-0", "other", setting.harness.host(10)));
    api.put(model_server("m", "renamed"));
    setting
        .harness
        .until("the repaired one is in use", async || setting.harness.complete("served").await.status == 503)
        .await;
    api.delete("ModelServer", "m");
    setting.harness.until("it can be deleted", async || known().await == 1).await;
}
