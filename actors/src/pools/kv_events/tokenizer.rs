//! Tokenizer: learns the tokens of one pool's prompts from its engines.
//!
//! # State
//! Which prompts are known, and which questions are under way. A fresh tokenizer knows none, and learns them anew.
//!
//! # Messages
//! In: [`LearnPrompt`] from request handlers, which do not wait for anything and for which a full mailbox is one prompt
//! that is not learnt; [`End`] from the PoolKeeper. Out: none; what is learnt is written into the pool's shared prompts.
//!
//! # Supervision
//! Started by the pool's PoolKeeper, which starts a fresh one in place of a dead one. It ends when its keeper says so.

use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use kthena_router::inference::kv_events::chain::TokenChain;
use kthena_router::inference::kv_events::index::Standing;
use kthena_router::inference::kv_events::known::{KnownPrompt, Learner};
use kthena_router::inference::kv_events::tokenize::{Asked, Question, TOKENIZE, tokens};
use kthena_router::scheduling::request::RequestFacts;

use super::{Engines, Questions};
use crate::messages::LearnPrompt;
use crate::nursery::End;
use crate::ops::metrics::{KvEventLabels, Metrics};
use crate::ops::vitals::Vitals;
use crate::pools::published::Pool;

/// Questions that are under way at the same time; prompts beyond them are not learnt this time.
const MOST_QUESTIONS: usize = 4;
/// The longest answer that is read, in bytes: a million tokens.
const MOST_ANSWER: usize = 16 << 20;

/// Learns the tokens of prompts.
pub struct Tokenizer {
    engines: Engines,
    pool: Arc<Pool>,
    questions: Questions,
    under_way: usize,
    learner: Learner,
    vitals: Vitals,
}

impl Tokenizer {
    /// The actor's name.
    pub const NAME: &str = "Tokenizer";

    /// Makes a tokenizer; it must be made on the thread that it runs on.
    pub fn new(engines: Engines, pool: Arc<Pool>, metrics: &Arc<Metrics>) -> Self {
        Self {
            questions: Questions::new(&engines.upstream, engines.https),
            engines,
            under_way: 0,
            learner: Learner::new(Arc::clone(&pool.prompts)),
            pool,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Learns a prompt, or begins to; returns what came of it.
    fn learn(&mut self, prompt: &LearnPrompt, context: &mut Context<Self>) -> &'static str {
        let view = self.pool.view();
        let heard = view.members.iter().filter(|member| member.held.standing() != Standing::Deaf);
        let Some((member, block_size)) = heard
            .filter_map(|member| Some((member, member.held.block_size()?)))
            .min_by_key(|(member, _)| member.cell.in_flight())
        else {
            return "not_heard";
        };
        let Some(asked) = Asked::about(prompt.api, &prompt.body, &prompt.facts.model) else { return "not_told" };
        let (facts, salt) = (Arc::clone(&prompt.facts), asked.salt);
        let chain = move |tokens: &[u32]| TokenChain::of(tokens, block_size, facts.adapter.as_deref(), salt.as_deref());
        let known =
            |facts: &RequestFacts, chain| KnownPrompt { texts: facts.prefix.clone(), estimate: facts.tokens, chain };
        let question = match asked.question {
            Question::Known(tokens) => {
                self.learner.learn(known(&prompt.facts, chain(&tokens)));
                return "named";
            }
            Question::Ask(question) => question,
        };
        if self.under_way >= MOST_QUESTIONS {
            return "too_many";
        }
        self.under_way += 1;
        let (questions, engine, facts) = (self.questions.clone(), member.endpoint.socket(), Arc::clone(&prompt.facts));
        let answer = async move { questions.ask(engine, TOKENIZE, Some(question), MOST_ANSWER).await };
        context.spawn(answer.into_actor(self).map(move |answer, tokenizer, _| {
            tokenizer.under_way -= 1;
            let learnt = answer.and_then(|answer| tokens(&answer));
            tokenizer.count(if learnt.is_some() { "answered" } else { "not_answered" });
            if let Some(tokens) = learnt {
                tokenizer.learner.learn(known(&facts, chain(&tokens)));
            }
        }));
        "asked"
    }

    fn count(&self, what: &'static str) {
        let labels = KvEventLabels { pool: self.engines.pool.to_string(), what };
        self.vitals.metrics().kv_events.tokenizations.get_or_create(&labels).inc();
    }
}

impl Actor for Tokenizer {
    type Context = Context<Self>;
}

impl Handler<LearnPrompt> for Tokenizer {
    type Result = ();

    fn handle(&mut self, prompt: LearnPrompt, context: &mut Self::Context) {
        let _handling = self.vitals.handling("LearnPrompt");
        // A burst of requests with one prompt asks for it once.
        let known = self.pool.prompts.find(&prompt.facts.prefix);
        if known.is_some_and(|likeness| likeness.texts == prompt.facts.prefix.len()) {
            return;
        }
        let outcome = self.learn(&prompt, context);
        self.count(outcome);
    }
}

impl Handler<End> for Tokenizer {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Self::Context) {
        let _handling = self.vitals.handling("End");
        context.stop();
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(Tokenizer, vitals);
