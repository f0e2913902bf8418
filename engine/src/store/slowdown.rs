//! Uploads wait when space is short, as [`Pressure`] has it.
//!
//! [`Pressure`]: super::pressure::Pressure

use std::time::Duration;

use crate::io::Io;
use crate::store::shard::Shard;

/// The longest single wait while there is space.
const WAIT_MAX: Duration = Duration::from_millis(80);
/// On the last segments: how often to look whether there are more.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl<I: Io> Shard<I> {
    /// Waits as the space demands before so many bytes are written for an upload.
    ///
    /// `waited`: how long this upload has waited for the last segments, over all its parts.
    pub(super) async fn pay(&self, bytes: u64, waited: &mut Duration) {
        let pressure = &self.shared().background.pressure;
        let wait = pressure.wait(bytes);
        if wait.is_zero() {
            return;
        }
        let now = self.io().now();
        // The uploads of a core wait one after another.
        let until = self.0.paid_until.get().max(now).after(wait).min(now.after(WAIT_MAX));
        self.0.paid_until.set(until);
        self.io().sleep(until.since(now)).await;
        while pressure.is_last() && self.waits_for_space(*waited).await {
            *waited += LOOK_EVERY;
        }
    }

    /// Waits a little for compaction to make space, on behalf of somebody who has waited for so
    /// long; false when that helps no more.
    pub(super) async fn waits_for_space(&self, waited: Duration) -> bool {
        if self.0.closing.get() || !self.shared().background.pressure.may_help(waited) {
            return false;
        }
        self.io().sleep(LOOK_EVERY).await;
        true
    }
}
