//! The slots of an engine for LoRA adapters: those of running requests stay, and the least recently used of the others
//! makes room.

/// The slots.
pub struct Slots {
    capacity: usize,
    loaded: Vec<Loaded>,
}

struct Loaded {
    adapter: u16,
    running: usize,
}

impl Slots {
    /// Makes so many empty slots.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, loaded: Vec::new() }
    }

    /// Returns whether a request with this adapter can run now.
    pub fn admits(&self, adapter: u16) -> bool {
        self.loaded.len() < self.capacity
            || self.loaded.iter().any(|loaded| loaded.adapter == adapter || loaded.running == 0)
    }

    /// Takes a request into work; returns whether its adapter had to be loaded.
    pub fn enter(&mut self, adapter: u16) -> bool {
        let found = self.loaded.iter().position(|loaded| loaded.adapter == adapter);
        let loaded = match found {
            Some(place) => self.loaded.remove(place),
            None => {
                if self.loaded.len() >= self.capacity
                    && let Some(idle) = self.loaded.iter().position(|loaded| loaded.running == 0)
                {
                    self.loaded.remove(idle);
                }
                Loaded { adapter, running: 0 }
            }
        };
        // The last one is the one that was used last.
        self.loaded.push(Loaded { running: loaded.running + 1, ..loaded });
        found.is_none()
    }

    /// Lets go of a request.
    pub fn leave(&mut self, adapter: u16) {
        if let Some(loaded) = self.loaded.iter_mut().find(|loaded| loaded.adapter == adapter) {
            loaded.running = loaded.running.saturating_sub(1);
        }
    }

    /// Returns the adapters of running requests.
    pub fn running(&self) -> impl Iterator<Item = u16> {
        self.loaded.iter().filter(|loaded| loaded.running > 0).map(|loaded| loaded.adapter)
    }
}
