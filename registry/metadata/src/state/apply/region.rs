//! Promotion and fencing.

use roadstead_oci::RepositoryName;

use super::{Apply, Halt, require};
use crate::query::{Region, Standing};
use crate::state::keyspace::{ASIDE_UP_TO, CURSOR, FILTER, HANDOVER, INBOX, INBOX_BY_AGE, REGION};
use crate::state::rows::{CursorRow, RegionRow};
use crate::{
    Arrival, ClusterId, Command, FenceRegion, FenceRegionRefused, Fenced, HandOverRegion, HandoverStep, Position,
    PromoteRegion, PromoteRegionRefused, Promotion, QueryError,
};

impl Command {
    /// Whether it changes what clients see because a client asked for it: what only a home takes. Those by which bytes
    /// come and go are among them, since their last one links a blob.
    const fn is_of_a_client(&self) -> bool {
        // Named one by one, so that nobody adds a command without saying on which side of a fence it is.
        match self {
            Self::OpenUpload(_)
            | Self::ClaimUpload(_)
            | Self::BeginMultipart(_)
            | Self::CheckpointUpload(_)
            | Self::ShowParts(_)
            | Self::BeginCompletion(_)
            | Self::FinishUpload(_)
            | Self::LinkBlob(_)
            | Self::MountBlob(_)
            | Self::UnlinkBlob(_)
            | Self::PutManifest(_)
            | Self::TagManifest(_)
            | Self::DeleteManifest(_)
            | Self::DeleteTag(_) => true,
            Self::ReserveKeys(_)
            | Self::CancelUpload(_)
            | Self::ExpireUploads(_)
            | Self::CondemnKeys(_)
            | Self::ForgetKeys(_)
            | Self::TouchBlob(_)
            | Self::CollectBlobs(_)
            | Self::AllocateNode(_)
            | Self::BeginHistory(_)
            | Self::SetQuarantine(_)
            | Self::NameFirstVolume(_)
            | Self::AnnounceLevel(_)
            | Self::ReceiveChanges(_)
            | Self::ReceiveSnapshot(_)
            | Self::ResolveManifest(_)
            | Self::ForsakeBlob(_)
            | Self::AdvanceInbox(_)
            | Self::AdmitMirror(_)
            | Self::DismissMirror(_)
            | Self::MendManifest(_)
            | Self::LandBlob(_)
            | Self::AdmitWriter(_)
            | Self::FenceRegion(_)
            | Self::PromoteRegion(_)
            | Self::KeepAside(_)
            | Self::DismissAside(_)
            | Self::NoteRemote(_)
            | Self::HandOverRegion(_)
            | Self::ReceiveChosen(_) => false,
        }
    }

    /// Whether it decides what a repository shows, as home alone does. A mirror that was home may have replicas that were
    /// started as a home's and have not heard.
    const fn decides(&self) -> bool {
        matches!(
            self,
            Self::UnlinkBlob(_)
                | Self::PutManifest(_)
                | Self::TagManifest(_)
                | Self::DeleteManifest(_)
                | Self::DeleteTag(_)
        )
    }
}

impl Apply<'_> {
    /// Why a command is not for this region, if it is not.
    pub(super) fn fenced(&self, command: &Command) -> Result<Option<FenceRegionRefused>, QueryError> {
        if !command.is_of_a_client() {
            return Ok(None);
        }
        let elsewhere = self.rows.get(REGION, ())?.filter(|row| !row.is_home);
        let elsewhere = elsewhere.map(|row| FenceRegionRefused::IsFenced { by: row.epoch });
        Ok(if command.decides() || !self.is_mirror()? { elsewhere } else { None })
    }

    /// Whether this region was home and knows of another one: its feed stands still.
    pub(super) fn is_fenced(&self) -> Result<bool, QueryError> {
        Ok(self.rows.get(REGION, ())?.is_some_and(|row| !row.is_home) && !self.is_mirror()?)
    }

    pub(super) fn fence_region(&mut self, operation: FenceRegion) -> Result<Fenced, Halt<FenceRegionRefused>> {
        let FenceRegion { by, origin, own } = operation;
        let known = self.region(own)?;
        let is_home = known.standing == Standing::Home;
        // A mirror may be given another home, of another line.
        require(origin == known.origin || !is_home, FenceRegionRefused::OtherOrigin { origin: known.origin })?;
        let fenced = Fenced { last: self.head.position };
        if origin == known.origin && by == known.epoch && !is_home {
            self.rows.remove(HANDOVER, ())?;
            return Ok(fenced);
        }
        require(origin != known.origin || by > known.epoch, FenceRegionRefused::NotHigher { known: known.epoch })?;
        self.rows.remove(HANDOVER, ())?;
        let row = RegionRow { epoch: by, origin, is_home: false, promotion: known.promotion };
        self.rows.put(REGION, (), &row)?;
        Ok(fenced)
    }

    pub(super) fn hand_over_region(&mut self, operation: HandOverRegion) -> Result<Fenced, Halt<FenceRegionRefused>> {
        let HandOverRegion { to, origin, own, step } = operation;
        let known = self.region(own)?;
        let handing_over = self.rows.get(HANDOVER, ())?;
        match step {
            HandoverStep::Begins => {
                // One that was fenced for good stays so.
                let is_held = handing_over.is_some() || known.standing == Standing::Home;
                let fenced = self.fence_region(FenceRegion { by: to, origin, own })?;
                if is_held {
                    self.rows.put(HANDOVER, (), &to)?;
                }
                return Ok(fenced);
            }
            HandoverStep::Ends => {
                let is_it = known.epoch == to && known.standing == Standing::Fenced;
                require(is_it, FenceRegionRefused::NotHigher { known: known.epoch })?;
            }
            HandoverStep::TakenBack => {
                let is_it = handing_over == Some(to) && known.standing == Standing::Fenced;
                require(is_it, FenceRegionRefused::NotHandingOver)?;
                let (epoch, origin) = (to.next(own), known.origin);
                let row = RegionRow { epoch, origin, is_home: true, promotion: known.promotion };
                self.rows.put(REGION, (), &row)?;
                self.rows.remove(ASIDE_UP_TO, ())?;
            }
        }
        self.rows.remove(HANDOVER, ())?;
        Ok(Fenced { last: self.head.position })
    }

    pub(super) fn promote_region(&mut self, operation: PromoteRegion) -> Result<Promotion, Halt<PromoteRegionRefused>> {
        let PromoteRegion { epoch, handed_over } = operation;
        let known = self.region(epoch.home)?;
        if known.standing == Standing::Home {
            // Whoever asks again for what is so already is told how it came to be.
            let promotion = known.promotion.filter(|_| known.epoch == epoch);
            return promotion.ok_or(Halt::Refused(PromoteRegionRefused::IsHome { epoch: known.epoch }));
        }
        // It may have been told of this very epoch, as one that is about to begin.
        require(epoch >= known.epoch, PromoteRegionRefused::NotHigher { known: known.epoch })?;
        let cursor = self.rows.get(CURSOR, ())?;
        let promotion = Promotion {
            at: self.now(),
            from: cursor.as_ref().map_or(known.epoch.home, |cursor| cursor.home),
            fork: self.fork(cursor.as_ref())?,
            given_up: cursor.as_ref().map_or(0, |cursor| cursor.waiting),
            before: self.head.position,
        };
        if let Some(last) = handed_over {
            let (position, waiting, wanted) = cursor
                .as_ref()
                .map_or((Position::default(), 0, 0), |cursor| (cursor.position, cursor.waiting, cursor.wanted_blobs));
            let is_level = position == last && waiting == 0 && wanted == 0;
            let comparing = cursor.as_ref().is_none_or(|cursor| cursor.comparison.is_some());
            // Home gives up what a filter has left out here.
            let is_whole = !comparing && !self.rows.has(FILTER, ())?;
            require(is_level && is_whole, PromoteRegionRefused::NotLevel { cursor: position, waiting, wanted })?;
        }
        if let Some(cursor) = cursor {
            // All of it at once: a home has no inbox. There are 20,000 at most.
            while self.forget_inbox(cursor.clone())?.more {}
        }
        self.rows.remove(CURSOR, ())?;
        self.rows.remove(FILTER, ())?;
        self.rows.remove(ASIDE_UP_TO, ())?;
        self.rows.remove(HANDOVER, ())?;
        let row = RegionRow { epoch, origin: known.origin, is_home: true, promotion: Some(promotion) };
        self.rows.put(REGION, (), &row)?;
        self.rename_feed(epoch.number.max(self.head.position.epoch + 1))?;
        Ok(promotion)
    }

    fn region(&self, own: ClusterId) -> Result<Region, QueryError> {
        let followed = self.rows.get(CURSOR, ())?.map(|cursor| cursor.home);
        Ok(Region::of(self.rows.get(REGION, ())?.as_ref(), followed, own))
    }

    /// The last change of home's feed up to which all is published here: none, where a filter has left something out, so
    /// that the home that was keeps all of its own aside.
    fn fork(&self, cursor: Option<&CursorRow>) -> Result<Position, QueryError> {
        let Some(cursor) = cursor.filter(|cursor| cursor.comparison.is_none()) else { return Ok(Position::default()) };
        if self.rows.has(FILTER, ())? {
            return Ok(Position::default());
        }
        let mut fork = cursor.position;
        for row in self.rows.scan(INBOX_BY_AGE, INBOX_BY_AGE.all())? {
            let (arrival, repository): (Arrival, RepositoryName) = row?;
            let Some(row) = self.rows.get(INBOX, (&repository, &arrival))? else { continue };
            let sequence = row.position.sequence.saturating_sub(1);
            fork = fork.min(Position { sequence, ..row.position });
        }
        Ok(fork)
    }
}
