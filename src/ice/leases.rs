//! Credentials of the embedded server for who has no session: so many for each address, each for a while. Is handed the time, never asks for it.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use crate::protocol::PeerId;

/// What is lent to every address.
pub struct Leases {
    /// So many at once for one address.
    address_max: usize,
    /// So many at once for all of them.
    total_max: usize,
    total: usize,
    addresses: HashMap<IpAddr, Vec<Lease>>,
}

struct Lease {
    peer_id: PeerId,
    expires_at: SystemTime,
}

/// There are as many as there may be. In so long one will have run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    pub retry_after: Duration,
}

impl Leases {
    /// Nothing is lent yet.
    pub fn new(address_max: usize, total_max: usize) -> Self {
        Self { address_max, total_max, total: 0, addresses: HashMap::new() }
    }

    /// Notes one more, unless there are too many. `ended` is told of those that have run out.
    pub fn lend(
        &mut self,
        address: IpAddr,
        lease: (PeerId, SystemTime),
        now: SystemTime,
        mut ended: impl FnMut(&PeerId),
    ) -> Result<(), TooMany> {
        // Where all is lent the others are looked at as well, and else only the address itself: nobody pays for a look at all with each request.
        if self.total >= self.total_max {
            self.addresses.retain(|_, leases| {
                self.total -= sweep(leases, now, &mut ended);
                !leases.is_empty()
            });
        }
        let leases = self.addresses.entry(address).or_default();
        self.total -= sweep(leases, now, &mut ended);
        if leases.len() >= self.address_max || self.total >= self.total_max {
            let first = leases.iter().map(|lease| lease.expires_at).min();
            let retry_after = first.and_then(|first| first.duration_since(now).ok()).unwrap_or(RETRY_AFTER);
            if leases.is_empty() {
                self.addresses.remove(&address);
            }
            return Err(TooMany { retry_after });
        }
        let (peer_id, expires_at) = lease;
        leases.push(Lease { peer_id, expires_at });
        self.total += 1;
        Ok(())
    }
}

/// Where nobody knows when there will be room.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Ends what has run out, and says how many that were.
fn sweep(leases: &mut Vec<Lease>, now: SystemTime, ended: &mut impl FnMut(&PeerId)) -> usize {
    let before = leases.len();
    leases.retain(|lease| {
        let is_good = lease.expires_at > now;
        if !is_good {
            ended(&lease.peer_id);
        }
        is_good
    });
    before - leases.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_one_more_when_one_has_run_out() {
        let mut leases = Leases::new(2, 3);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let too_many = |seconds| Err(TooMany { retry_after: Duration::from_secs(seconds) });
        let mut ended = Vec::new();
        let mut lend = |n, from, until| {
            let peer_id = PeerId::random();
            (peer_id, leases.lend(address(n), (peer_id, at(until)), at(from), |peer_id| ended.push(*peer_id)))
        };
        let (first, lent) = lend(1, 0, 10);
        assert_eq!(lent, Ok(()));
        assert_eq!(lend(1, 1, 20).1, Ok(()));
        assert_eq!(lend(1, 2, 20).1, too_many(8));
        let (other, lent) = lend(2, 2, 12);
        assert_eq!(lent, Ok(()));
        assert_eq!(lend(3, 3, 20).1, too_many(60), "all are lent, and none of its own will run out");
        assert_eq!(lend(1, 10, 20).1, Ok(()), "the first has run out");
        assert_eq!(lend(3, 12, 20).1, Ok(()), "somebody else's has");
        assert_eq!(lend(3, 12, 20).1, too_many(8));
        assert_eq!(ended, [first, other]);
        assert_eq!((leases.total, leases.addresses.len()), (3, 2));
    }
}
