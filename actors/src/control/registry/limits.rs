//! The limits of ModelRoutes: their counts, and the Redis servers in which replicas count together.

use actix::{Context, Handler};
use kthena_router::record::Effect;

use super::RouteRegistry;
use crate::messages::RedisReported;
use crate::pools::meters::Meters;

impl RouteRegistry {
    /// Returns the counts of the limits that there are now.
    pub(super) fn keep_meters(&mut self) -> Meters {
        let limits = || self.world.model_routes.objects.values().filter_map(|route| route.limits.as_ref());
        let is_named = |redis| limits().any(|limits| limits.redis.as_ref() == Some(redis));
        let named = self.world.redis_away.iter().filter(|redis| is_named(redis)).cloned().collect();
        for gone in self.meters.follow(limits().map(|limits| &limits.key)) {
            self.vitals.metrics().rate_limits.forget(&gone.model);
        }
        self.world.redis_away = named;
        self.meters.clone()
    }
}

impl Handler<RedisReported> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, RedisReported { address, away }: RedisReported, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("RedisReported");
        let known = &mut self.world.redis_away;
        let is_news = if away { known.insert(address) } else { known.remove(&address) };
        self.schedule(if is_news { Effect::Plan } else { Effect::Nothing }, context);
    }
}
