//! HTTPRoutes: which rule a request falls under, and what that does with it.

mod backend_reference;
mod candidates;
mod contenders;
pub mod cors;
pub mod entry;
mod faults;
pub mod filters;
pub mod headers;
mod path_index;
pub mod path_modifier;
mod precedence;
mod predicate;
pub mod redirect;
pub mod route;
mod rule;
pub mod table;

#[cfg(test)]
mod tests;
