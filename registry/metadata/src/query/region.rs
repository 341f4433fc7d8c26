//! Questions about which region is home.

use serde::{Deserialize, Serialize};

use super::{Query, QueryError};
use crate::state::keyspace::{CURSOR, HANDOVER, REGION};
use crate::state::rows::RegionRow;
use crate::{ClusterId, Promotion, RegionEpoch};

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It takes changes.
    Home,
    /// It follows another one.
    Mirror,
    /// It was home, and knows that another one is.
    Fenced,
}

/// A region among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The highest epoch that it knows of.
    pub epoch: RegionEpoch,
    /// The first home of that line of epochs.
    pub origin: ClusterId,
    /// What it is.
    pub standing: Standing,
    /// How it became home, if it was promoted.
    pub promotion: Option<Promotion>,
}

impl Query {
    /// What this region is, whose cluster is `own`.
    pub fn region(&self, own: ClusterId) -> Result<Region, QueryError> {
        let row = self.rows.get(REGION, ())?;
        let followed = self.rows.get(CURSOR, ())?.map(|cursor| cursor.home);
        Ok(Region::of(row.as_ref(), followed, own))
    }

    /// The handover that this region has begun, and that the mirror has not ended: the epoch that it is to.
    pub fn handing_over(&self) -> Result<Option<RegionEpoch>, QueryError> {
        self.rows.get(HANDOVER, ())
    }
}

impl Region {
    /// What the rows say.
    pub(crate) fn of(row: Option<&RegionRow>, followed: Option<ClusterId>, own: ClusterId) -> Self {
        let standing = match (row, followed) {
            (_, Some(_)) => Standing::Mirror,
            (Some(RegionRow { is_home: false, .. }), None) => Standing::Fenced,
            _ => Standing::Home,
        };
        let first = followed.unwrap_or(own);
        match row {
            Some(RegionRow { epoch, origin, promotion, .. }) => {
                Self { epoch: *epoch, origin: *origin, standing, promotion: *promotion }
            }
            None => Self { epoch: RegionEpoch::first(first), origin: first, standing, promotion: None },
        }
    }
}
