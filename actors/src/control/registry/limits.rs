//! The limits of ModelRoutes: their counts, and the Redis servers in which replicas count together.

use actix::{Context, Handler};
use kthena_router::record::Effect;

use super::RouteRegistry;
use crate::messages::RedisReported;
use crate::pools::meters::Meters;

impl RouteRegistry {
    /// Returns the counts of the limits that there are now.
    pub(super) fn keep_meters(&mut self) -> Meters {
        let limits = self.world.model_routes.objects.values().filter_map(|route| route.limits.as_deref());
        for gone in self.meters.follow(limits) {
            self.vitals.metrics().rate_limits.forget(&gone.model);
        }
        self.meters.clone()
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
