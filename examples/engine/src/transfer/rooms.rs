//! Where both legs of SGLang's protocol meet: whoever comes first waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tokio::{sync::watch, time::timeout};

use super::{Blocks, travel};
use crate::state::EngineState;

/// The rooms in which somebody is.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<HashMap<u64, Arc<watch::Sender<Meeting>>>>);

/// How far two legs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// The prompt is not computed yet.
    Begun,
    /// It is: this is the size of the prompt in tokens.
    Computed(u64),
    /// The decode engine fetches the blocks; nobody else may.
    Fetched,
    /// It has them.
    Over,
    /// One of the legs has left.
    Broken,
}

/// A leg in a room. One that leaves before the end breaks the meeting.
#[derive(Debug)]
pub(crate) struct Guest {
    engine: Arc<EngineState>,
    room: u64,
    meeting: Arc<watch::Sender<Meeting>>,
}

/// Why a leg was in vain.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Alone {
    /// The other leg did not come.
    #[error("nobody came into the bootstrap room in time")]
    NobodyCame,
    /// The other leg left.
    #[error("the other leg has left the bootstrap room")]
    Left,
}

impl Guest {
    /// Enters a room.
    pub(crate) fn enter(engine: &Arc<EngineState>, room: u64) -> Self {
        let mut rooms = engine.transfers.rooms.lock();
        engine.transfers.counts.guests.add(1);
        let meeting = rooms.entry(room).or_insert_with(|| Arc::new(watch::Sender::new(Meeting::Begun)));
        Self { engine: Arc::clone(engine), room, meeting: Arc::clone(meeting) }
    }

    /// Offers the blocks of a prompt that is computed, and waits until they were fetched.
    pub(crate) async fn offer(self, tokens: u64) -> Result<(), Alone> {
        let _blocks = Blocks::hold(Arc::clone(&self.engine), tokens);
        self.meeting.send_if_modified(|meeting| {
            let is_first = *meeting == Meeting::Begun;
            if is_first {
                *meeting = Meeting::Computed(tokens);
            }
            is_first
        });
        self.wait(|meeting| match meeting {
            Meeting::Over => Some(Ok(())),
            Meeting::Broken => Some(Err(Alone::Left)),
            Meeting::Begun | Meeting::Computed(_) | Meeting::Fetched => None,
        })
        .await
    }

    /// Waits for the blocks and fetches them; returns the size of their prompt in tokens.
    pub(crate) async fn fetch(self) -> Result<u64, Alone> {
        let meeting = &self.meeting;
        let tokens = self
            .wait(|now| match now {
                Meeting::Computed(tokens) => {
                    let is_first = meeting.send_if_modified(|meeting| {
                        let is_first = *meeting == now;
                        if is_first {
                            *meeting = Meeting::Fetched;
                        }
                        is_first
                    });
                    Some(if is_first { Ok(tokens) } else { Err(Alone::Left) })
                }
                // A room is for two: a third one finds nothing in it.
                Meeting::Broken | Meeting::Over | Meeting::Fetched => Some(Err(Alone::Left)),
                Meeting::Begun => None,
            })
            .await?;
        let left = self.wait(|now| (now == Meeting::Broken).then_some(Err(Alone::Left)));
        tokio::select! {
            left = left => return left,
            () = travel(&self.engine, tokens) => {}
        }
        self.meeting.send_replace(Meeting::Over);
        Ok(tokens)
    }

    async fn wait<T>(&self, mut end: impl FnMut(Meeting) -> Option<Result<T, Alone>>) -> Result<T, Alone> {
        let mut changes = self.meeting.subscribe();
        let ended = async {
            loop {
                let now = *changes.borrow_and_update();
                if let Some(end) = end(now) {
                    return end;
                }
                // The sender is held by `self`.
                changes.changed().await.ok();
            }
        };
        timeout(self.engine.config.kv_hold_timeout, ended).await.unwrap_or_else(|_| {
            self.engine.transfers.counts.expired.add(1);
            Err(Alone::NobodyCame)
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let is_broken = self.meeting.send_if_modified(|meeting| {
            let goes_on = !matches!(meeting, Meeting::Over | Meeting::Broken);
            if goes_on {
                *meeting = Meeting::Broken;
            }
            goes_on
        });
        if is_broken {
            self.engine.transfers.counts.aborted.add(1);
        }
        self.engine.transfers.counts.guests.subtract(1);
        let mut rooms = self.engine.transfers.rooms.lock();
        if rooms.get(&self.room).is_some_and(|meeting| Arc::ptr_eq(meeting, &self.meeting)) {
            rooms.remove(&self.room);
        }
    }
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<watch::Sender<Meeting>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
