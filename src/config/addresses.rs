//! Where the addresses of Gateways come from.

use clap::{Args, ValueEnum};

use super::ConfigError;
use crate::addresses::{AddressProvider, AddressRange};

/// Where the addresses of Gateways come from.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct AddressConfig {
    /// Who gives Gateways their addresses: all share those of the router's own Service, each gets one of
    /// --gateway-addresses to itself, or each gets a load balancer Service of its own
    #[arg(
        long, env = "KTHENA_GATEWAY_ADDRESS_PROVIDER", value_enum, default_value_t = AddressProviderName::Shared,
        value_name = "NAME"
    )]
    pub gateway_address_provider: AddressProviderName,

    /// Addresses and networks that Gateways get their addresses of, separated by commas
    #[arg(long, env = "KTHENA_GATEWAY_ADDRESSES", value_delimiter = ',', value_name = "ADDRESSES")]
    pub gateway_addresses: Vec<AddressRange>,
}

/// The name of an address provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddressProviderName {
    /// All Gateways share the addresses of the router's own Service.
    Shared,
    /// Each Gateway gets an address of a list to itself.
    Pool,
    /// Each Gateway gets a Service of its own.
    Service,
}

impl AddressConfig {
    /// Returns the provider that the options ask for.
    pub fn provider(&self) -> AddressProvider {
        match self.gateway_address_provider {
            AddressProviderName::Shared => AddressProvider::Shared,
            AddressProviderName::Pool => AddressProvider::Pool(self.gateway_addresses.clone()),
            AddressProviderName::Service => AddressProvider::Service,
        }
    }

    /// Returns what is wrong with the options together.
    pub(super) fn fault(&self) -> Option<ConfigError> {
        let is_pool = self.gateway_address_provider == AddressProviderName::Pool;
        (is_pool == self.gateway_addresses.is_empty()).then_some(ConfigError::PoolAndAddresses)
    }
}
