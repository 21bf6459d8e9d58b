//! How the requests that a port may have in flight are shared between its Gateways.
//!
//! Half of the limit is divided evenly: so many places each Gateway has to itself. The other half is for whoever comes.
//! One tenant can fill it, and its own share, and every other one still has its own.

/// The places of a port at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// How many each Gateway has to itself.
    pub own: usize,
    /// How many are for all.
    pub common: usize,
}

impl Places {
    /// Divides a limit between as many Gateways; a port without Gateways counts as one with one.
    pub fn divide(limit: usize, gateways: usize) -> Self {
        let gateways = gateways.max(1);
        let own = limit / (2 * gateways);
        Self { own, common: limit - own * gateways }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_of_the_places_is_divided() {
        for (limit, gateways, own, common) in
            [(100, 1, 50, 50), (100, 2, 25, 50), (100, 0, 50, 50), (3, 2, 0, 3), (1, 1, 0, 1)]
        {
            assert_eq!(Places::divide(limit, gateways), Places { own, common }, "{limit} between {gateways}");
        }
    }

    proptest! {
        #[test]
        fn the_limit_holds(limit in 1_usize..1_000_000, gateways in 1_usize..1_000) {
            let Places { own, common } = Places::divide(limit, gateways);
            prop_assert_eq!(own * gateways + common, limit);
            prop_assert!(common >= limit / 2);
        }
    }
}
