//! What users of the router in a cluster can rely on, one behaviour in each file.
//!
//! `integration/run` builds everything, starts a cluster and runs this program in it;
//! `kthena_router_integration::suite` says how. New behaviours are added to the list below, which is the order in which
//! they run.

use std::process::ExitCode;

use kthena_router_integration::behaviour;
use kthena_router_integration::suite::{Behaviour, run};

mod bad_input;
mod bad_objects;
mod changes;
mod chart;
mod classes;
mod compaction;
mod defaults;
mod disaggregation;
mod engine_rollout;
mod inference_extension;
mod late_definitions;
mod leadership;
mod manifests;
mod missed_events;
mod namespaces;
mod outage;
mod rbac;
mod reports;
mod router_rollout;
mod scale;
mod scene;
mod service_ports;
mod silence;
mod streams;
mod token_limits;
mod walk_through;

const BEHAVIOURS: &[Behaviour] = &[
    behaviour!(AnyCluster, walk_through::the_steps_of_the_announcement_work_as_they_are_written),
    behaviour!(AnyCluster, walk_through::the_commands_of_the_example_work_as_they_are_written),
    behaviour!(AnyCluster, inference_extension::the_steps_of_the_announcement_work_as_they_are_written),
    behaviour!(AnyCluster, inference_extension::an_older_definition_that_demands_a_picker_is_no_obstacle),
    behaviour!(AnyCluster, inference_extension::both_apis_serve_the_same_pods_at_once),
    behaviour!(AnyCluster, manifests::every_manifest_and_example_passes_the_api_server),
    behaviour!(AnyCluster, chart::the_chart_renders_what_the_kustomizations_do),
    behaviour!(AnyCluster, chart::the_chart_refuses_values_that_make_no_sense),
    behaviour!(AnyCluster, chart::a_changed_scheduler_rolls_the_router_out),
    behaviour!(AnyCluster, changes::a_change_takes_effect_within_a_second),
    behaviour!(AnyCluster, reports::kubectl_shows_the_state_in_columns),
    behaviour!(AnyCluster, reports::a_transition_is_an_event_and_a_steady_state_is_none),
    behaviour!(AnyCluster, bad_input::invalid_objects_are_refused_with_the_field_and_the_reason),
    behaviour!(AnyCluster, bad_input::a_route_that_cannot_be_used_is_reported_and_disturbs_no_other),
    behaviour!(AnyCluster, bad_input::a_missing_model_server_is_reported_and_answered_with_503),
    behaviour!(TestCluster, bad_objects::an_object_that_cannot_be_decoded_is_reported_and_the_rest_works),
    behaviour!(AnyCluster, service_ports::ports_follow_the_gateways_and_those_of_users_stay),
    behaviour!(AnyCluster, classes::gateways_of_a_foreign_class_are_left_alone),
    behaviour!(AnyCluster, classes::a_class_of_another_name_with_our_controller_is_ours),
    behaviour!(AnyCluster, namespaces::only_the_namespaces_that_are_named_are_served),
    behaviour!(AnyCluster, defaults::the_default_gateway_and_the_class_come_back_and_traffic_goes_on),
    behaviour!(AnyCluster, streams::a_pod_deleted_during_a_stream_ends_it_clearly_and_others_go_on),
    behaviour!(AnyCluster, streams::a_pod_killed_during_a_stream_breaks_it_off_and_others_go_on),
    behaviour!(AnyCluster, engine_rollout::new_engines_replace_old_ones_without_a_failed_request),
    behaviour!(AnyCluster, engine_rollout::new_pods_of_a_service_replace_old_ones_without_a_failed_request),
    behaviour!(AnyCluster, disaggregation::the_examples_of_vllm_are_served_by_pairs),
    behaviour!(AnyCluster, disaggregation::the_examples_of_sglang_are_served_by_pairs),
    behaviour!(AnyCluster, disaggregation::roles_may_change_while_requests_run),
    behaviour!(AnyCluster, disaggregation::a_group_with_one_role_is_named_in_the_status),
    behaviour!(AnyCluster, router_rollout::new_routers_replace_old_ones_without_a_failed_request),
    behaviour!(TestCluster, router_rollout::a_router_that_stops_tells_its_clients_to_go_elsewhere),
    behaviour!(TestCluster, token_limits::replicas_share_a_limit_in_redis_and_serve_without_it),
    behaviour!(TestCluster, leadership::one_replica_writes_and_another_takes_over_when_it_dies),
    behaviour!(TestCluster, missed_events::changes_made_while_the_api_server_is_down_take_effect),
    behaviour!(TestCluster, compaction::changes_take_effect_although_their_history_is_gone),
    behaviour!(TestCluster, silence::a_watch_that_has_died_in_silence_is_noticed),
    behaviour!(TestCluster, outage::traffic_goes_on_for_a_minute_without_an_api_server),
    behaviour!(TestCluster, late_definitions::definitions_may_be_installed_after_the_router),
    behaviour!(TestCluster, scale::a_thousand_routes_and_two_thousand_pods_are_no_burden),
    behaviour!(TestCluster, rbac::every_permission_is_used_and_none_is_missing),
];

fn main() -> ExitCode {
    run(BEHAVIOURS)
}
