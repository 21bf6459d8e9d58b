//! Where the addresses of Gateways come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Where the addresses of Gateways come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressProvider {
    /// All Gateways share the addresses of the router's own Service, and the address that ports are opened on.
    #[default]
    Shared,
    /// Each Gateway gets one of these addresses to itself, and its ports are opened there.
    Pool(Vec<AddressRange>),
    /// Each Gateway gets a Service of its own, whose load balancer gives it its addresses.
    Service,
}

/// Addresses of one family that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is neither an address nor a network in CIDR notation")]
pub struct AddressRangeError(String);

impl AddressRange {
    /// Returns whether the address is one of these.
    pub fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Iterates over the addresses in ascending order.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        let number = |address| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        (number(self.first)..=number(self.last)).map(move |number| match u32::try_from(number) {
            Ok(number) if self.first.is_ipv4() => IpAddr::V4(Ipv4Addr::from(number)),
            _ => IpAddr::V6(Ipv6Addr::from(number)),
        })
    }
}

/// Reads an address, or a network in CIDR notation; the network address and the broadcast address of an IPv4 network
/// are left out.
impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || AddressRangeError(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            let address = text.parse().map_err(|_| refused())?;
            return Ok(Self { first: address, last: address });
        };
        let length: u32 = length.parse().map_err(|_| refused())?;
        match address.parse().map_err(|_| refused())? {
            IpAddr::V4(address) if length <= 32 => {
                let hosts = u32::MAX.checked_shr(length).unwrap_or_default();
                let first = u32::from(address) & !hosts;
                let ends = u32::from(length < 31);
                let (first, last) = (first + ends, (first | hosts) - ends);
                Ok(Self { first: Ipv4Addr::from(first).into(), last: Ipv4Addr::from(last).into() })
            }
            IpAddr::V6(address) if length <= 128 => {
                let hosts = u128::MAX.checked_shr(length).unwrap_or_default();
                let first = u128::from(address) & !hosts;
                Ok(Self { first: Ipv6Addr::from(first).into(), last: Ipv6Addr::from(first | hosts).into() })
            }
            _ => Err(refused()),
        }
    }
}
