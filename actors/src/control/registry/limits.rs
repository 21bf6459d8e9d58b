//! The limits of ModelRoutes: their counts, and the Redis servers in which replicas count together.

use actix::{Context, Handler};
use kthena_router::rate_limit::LimitKey;
use kthena_router::record::Effect;

use super::RouteRegistry;
use crate::messages::RedisReported;
use crate::pools::meters::Meters;

impl RouteRegistry {
    /// Returns the counts of the limits that there are now, and which limits are gone.
    pub(super) fn keep_meters(&mut self) -> (Meters, Vec<LimitKey>) {
        let limits = self.world.model_routes.objects.values().filter_map(|route| route.limits.as_deref());
        let gone = self.meters.follow(limits);
        (self.meters.clone(), gone)
    }

    /// Removes the series of limits that no request meets any more: one that did would make them anew.
    pub(super) fn forget_limits(&self, gone: &[LimitKey]) {
        gone.iter().for_each(|gone| self.vitals.metrics().rate_limits.forget(&gone.model));
    }
}

impl Handler<RedisReported> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, RedisReported { away }: RedisReported, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("RedisReported");
        let before = std::mem::replace(&mut self.world.redis_away, away);
        self.schedule(if before == self.world.redis_away { Effect::Nothing } else { Effect::Plan }, context);
    }
}
