//! The arguments of a plugin, as the configuration file has them.

use std::collections::BTreeMap;

use thiserror::Error;

/// Numbers by their names, in lower case: the Go router does not tell upper from lower case there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(BTreeMap<String, f64>);

/// An argument that cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BadArgument {
    /// The plugin has none of this name.
    #[error("there is no argument `{0}`")]
    Unknown(String),
    /// Its value is out of bounds.
    #[error("`{name}` is {value}, it must be {bounds}")]
    OutOfBounds {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        bounds: &'static str,
    },
}

impl Arguments {
    /// Adds an argument.
    pub fn add(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_ascii_lowercase(), value);
    }

    /// Takes an argument that is a whole number above 0 out; the default if there is none.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for any other number.
    pub fn count(&mut self, name: &'static str, default: u32) -> Result<u32, BadArgument> {
        let Some(value) = self.0.remove(&name.to_ascii_lowercase()) else { return Ok(default) };
        if value.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&value) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is a whole number in range"
            )]
            return Ok(value as u32);
        }
        Err(BadArgument::OutOfBounds { name, value, bounds: "a whole number above 0" })
    }

    /// Takes an argument that is a whole number, 0 included, out; the default if there is none.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for any other number.
    pub fn count_or_none(&mut self, name: &'static str, default: u32) -> Result<u32, BadArgument> {
        if self.0.get(&name.to_ascii_lowercase()) == Some(&0.0) {
            self.0.remove(&name.to_ascii_lowercase());
            return Ok(0);
        }
        self.count(name, default)
    }

    /// Takes an argument between 0 and 1 out; the default if there is none.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for any other number.
    pub fn part(&mut self, name: &'static str, default: f64) -> Result<f64, BadArgument> {
        let Some(value) = self.0.remove(&name.to_ascii_lowercase()) else { return Ok(default) };
        if (0.0..=1.0).contains(&value) {
            return Ok(value);
        }
        Err(BadArgument::OutOfBounds { name, value, bounds: "between 0 and 1" })
    }

    /// Sees that every argument was taken.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for one that was not.
    pub fn end(self) -> Result<(), BadArgument> {
        self.0.into_keys().next().map_or(Ok(()), |name| Err(BadArgument::Unknown(name)))
    }
}
