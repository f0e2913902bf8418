//! Why a node is not ready for blobs, if it isn't.

use std::borrow::Cow;
use std::time::Duration;

use nabu_cluster::control::lease::LEASE;
use nabu_cluster::control::member::MemberState;
use nabu_cluster::control::verdicts::SILENCE;
use nabu_engine::io::Instant;
use nabu_engine::runtime::boot_time;

use crate::api::context::{CONTROL_NOT_READY_REASON, Context, NOT_READY_REASON};
use crate::control::View;

/// How long a node without contact is ready: until the others may count it as offline. Its contact
/// ends earlier, so that it never answers alone by then.
const OUT_OF_CONTACT_MAX: Duration = SILENCE.saturating_sub(LEASE);

/// The reasons; none of a node that is ready.
pub fn reasons(context: &Context, is_stopping: bool) -> Vec<Cow<'static, str>> {
    let mut reasons = Vec::new();
    if context.blobs().is_none() {
        reasons.push(NOT_READY_REASON.into());
    }
    match context.cluster() {
        Ok(None) => {}
        Ok(Some(handle)) => reasons.extend(reason_of(&handle.view(), boot_time())),
        Err(_) => reasons.push(CONTROL_NOT_READY_REASON.into()),
    }
    if is_stopping {
        reasons.push("the server is shutting down".into());
    }
    reasons
}

/// Why a node of a cluster is not ready, as far as the others are concerned.
fn reason_of(view: &View, now: Instant) -> Option<Cow<'static, str>> {
    if view.is_removed {
        return Some("the cluster has removed this node for good: empty its data directories to use it again".into());
    }
    if let Some(problem) = &view.problem {
        return Some(problem.to_string().into());
    }
    if view.membership.is_none() {
        return Some("this node belongs to no cluster yet: it needs an answer from the nodes that --join names".into());
    }
    match view.own().map(|member| member.state) {
        Some(MemberState::Active) => {}
        None => return Some("this node has not learned yet what its cluster agreed on".into()),
        Some(MemberState::Joining) => return Some("this node is joining its cluster, and has no seat yet".into()),
        Some(MemberState::Leaving) => return Some("this node is leaving its cluster".into()),
        Some(MemberState::Offline) => return Some("the cluster counts this node as offline".into()),
        Some(MemberState::Returning) => {
            return Some("this node was offline, and is catching up with what it missed".into());
        }
    }
    match view.out_of_contact_for(now) {
        Some(time) if time < OUT_OF_CONTACT_MAX => None,
        Some(time) => Some(
            format!(
                "this node has been out of contact with the leader of its cluster for {} s: it may be cut off from the \
                 majority",
                time.as_secs()
            )
            .into(),
        ),
        None => Some("this node has had no contact yet with the leader of its cluster".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nabu_cluster::control::Problem;
    use nabu_cluster::control::command::Refusal;
    use nabu_cluster::node::NodeNumber;

    use super::*;
    use crate::control::sample::{self, CONTACT_UNTIL, ME};

    fn in_state(state: MemberState) -> View {
        let mut view = sample::view();
        Arc::make_mut(&mut view.members).get_mut(&ME).expect("a member").state = state;
        view
    }

    #[test]
    fn a_member_is_ready_until_it_was_unheard_for_as_long_as_makes_it_offline() {
        let view = sample::view();
        let heard = Instant(CONTACT_UNTIL.0 - LEASE.as_nanos() as u64);
        let last = Instant(heard.after(SILENCE).0 - 1);
        for ready in [Instant(0), heard, CONTACT_UNTIL, last] {
            assert_eq!(reason_of(&view, ready), None, "{ready:?}");
        }
        let reason = reason_of(&view, heard.after(SILENCE)).expect("a verdict may have come");
        assert!(reason.contains("out of contact") && reason.contains("for 5 s"), "{reason}");
    }

    #[test]
    fn contact_that_was_taken_back_and_is_had_again_is_contact() {
        let mut view = sample::view();
        view.contact_until = None;
        assert_eq!(reason_of(&view, CONTACT_UNTIL), None, "it may be had again in a moment");
        view.last_contact_until = None;
        assert!(reason_of(&view, CONTACT_UNTIL).is_some_and(|reason| reason.contains("no contact yet")));
    }

    #[test]
    fn who_is_no_active_member_is_not_ready_and_says_why() {
        for (state, part) in [
            (MemberState::Joining, "has no seat yet"),
            (MemberState::Leaving, "is leaving"),
            (MemberState::Offline, "as offline"),
            (MemberState::Returning, "is catching up"),
        ] {
            assert!(
                reason_of(&in_state(state), CONTACT_UNTIL).is_some_and(|reason| reason.contains(part)),
                "{state:?}"
            );
        }
        let newcomer = reason_of(&sample::newcomer(), CONTACT_UNTIL).expect("it has no cluster");
        assert!(newcomer.contains("belongs to no cluster yet"), "{newcomer}");
        let problem = Problem::Refused(Refusal::Conflict { node: NodeNumber(9) });
        let refused = View { problem: Some(problem), ..sample::newcomer() };
        assert!(reason_of(&refused, CONTACT_UNTIL).is_some_and(|reason| reason.contains("refuses this node")));
        let told = View { membership: sample::view().membership, ..sample::newcomer() };
        assert!(reason_of(&told, CONTACT_UNTIL).is_some_and(|reason| reason.contains("has not learned yet")));
        let removed = View { is_removed: true, ..sample::view() };
        assert!(reason_of(&removed, CONTACT_UNTIL).is_some_and(|reason| reason.contains("removed this node for good")));
    }
}
