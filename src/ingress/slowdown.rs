//! Makes those wait who come from where wrong credentials came from. How long is for [`Failures`] to say.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Clients, address::Addresses};
use crate::auth::{
    Authorize, Denied, Grant, RoomAccess, Visitor,
    failures::{FailureLimits, Failures},
};

/// What all who look at credentials ask first, and tell what came of it.
pub struct Slowdown {
    failures: Failures,
    addresses: Arc<Addresses>,
    clients: Arc<Clients>,
}

/// Whoever decides who may come in, and is asked no faster than failures allow: by every door, and for every new token.
pub struct Unhurried {
    pub authority: Arc<dyn Authorize>,
    pub slowdown: Arc<Slowdown>,
}

impl Slowdown {
    /// Nobody has failed yet.
    pub fn new(limits: FailureLimits, addresses: Arc<Addresses>, clients: Arc<Clients>) -> Arc<Self> {
        Arc::new(Self { failures: Failures::new(limits), addresses, clients })
    }

    /// How long whoever comes from this address has to wait.
    pub fn delay(&self, address: IpAddr) -> Duration {
        self.failures.delay(address, Instant::now())
    }

    /// Waits until a credential from this address may be looked at. A server that shuts down waits for nobody.
    pub async fn over(&self, address: IpAddr) {
        let delay = self.delay(address);
        if !delay.is_zero() {
            tokio::select! { () = tokio::time::sleep(delay) => {}, () = self.clients.drained() => {} }
        }
    }

    /// A credential from this address was wrong.
    pub fn failed(&self, address: IpAddr) {
        match self.addresses.is_proxy(address) {
            // One that cannot name its clients, as for UDP: there are as many behind it as an address may have connections, and one does not slow down all.
            true => self.failures.failed_among_many(address, Instant::now()),
            false => self.failures.failed(address, Instant::now()),
        }
    }

    /// A resume token from this address was none.
    pub fn failed_to_resume(&self, address: IpAddr) {
        self.failures.failed_among_many(address, Instant::now());
    }
}

impl Authorize for Unhurried {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        // Who says no token guesses none.
        if visitor.token.is_none() {
            return self.authority.connect(visitor);
        }
        let address = visitor.address;
        let asking = async move {
            self.slowdown.over(address).await;
            let answer = self.authority.connect(visitor).await;
            if answer.as_ref().is_err_and(|denied| !denied.is_blameless()) {
                self.slowdown.failed(address);
            }
            answer
        };
        asking.boxed()
    }

    fn join(&self, visitor: Visitor, user: Option<Arc<str>>, room: String) -> BoxFuture<'_, Result<RoomAccess, Denied>> {
        self.authority.join(visitor, user, room)
    }
}
