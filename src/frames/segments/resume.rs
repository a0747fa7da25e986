//! What a killed recorder has left in its segments, and how the recording goes on.

use super::options::{Framing, Options};
use crate::frames;
use crate::frames::error::Error;
use crate::frames::format::Head;
use crate::frames::recover::{self, Glance, Recovered};
use crate::recover::Locked;
use crate::segments::{Listing, MOST_OPEN, Segment};

/// What a resume has found, and done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resumed {
    /// The segments that nobody had closed, the oldest first, and what was in each. They have a footer
    /// now.
    pub recovered: Vec<(Segment, Recovered)>,
    /// Those in which nothing was: the ones that had been made ready. They are gone.
    pub removed: Vec<Segment>,
    /// The number that the next frame will have.
    pub next_sequence: u64,
}

/// Brings the segments in order; returns how the recording goes on, if there was one.
pub(super) fn run(options: &Options) -> Result<(Resumed, Option<Framing>), Error> {
    let below = options.below.of_each();
    let listing = Listing::new(options.below.pattern(), &*below.host)?;
    let segments = listing.segments()?;
    let each = below.clone().preallocate(crate::Preallocate::None);
    let each = frames::Options::from(each).longest(options.longest);
    let (open, mut last) = unclosed(&segments, &each)?;
    let mut resumed = Resumed::default();
    // The oldest first: what a crash leaves of this is again closed ones before open ones.
    for (segment, head) in open.into_iter().rev() {
        let recovered = match head {
            Some(_) => each.finish(&segment.path)?,
            None => each.recover(&segment.path)?,
        };
        if let Some(head) = head {
            let next = last.map_or(0, |(_, next)| next).max(recovered.next_sequence);
            last = Some((head, next));
        }
        match recovered.frames == 0 && recovered.missing == 0 && recovered.torn.is_none() {
            true => {
                listing.remove(segment)?;
                resumed.removed.push(segment.clone());
            }
            false => resumed.recovered.push((segment.clone(), recovered)),
        }
    }
    Ok((resumed, last.map(|(head, next)| Framing::going_on(&head, next))))
}

/// The segments that have to be recovered, the newest first, with their heads; and the head and the
/// next number of the newest one that was closed. Changes nothing.
///
/// Segments are closed in their order; but where one can't be, those that were open beside it are.
#[expect(clippy::type_complexity, reason = "two answers of one walk")]
fn unclosed<'a>(
    segments: &'a [Segment],
    each: &frames::Options,
) -> Result<(Vec<(&'a Segment, Option<Head>)>, Option<(Head, u64)>), Error> {
    let mut open: Vec<(&Segment, Option<Head>)> = Vec::new();
    let mut closed = None;
    for (behind, segment) in segments.iter().rev().enumerate() {
        let path = &segment.path;
        let locked = Locked::new(each.below(), path)?;
        let glance = recover::glance(&locked.file).map_err(|error| error.of(path))?;
        let known = closed.map(|(head, _)| head);
        let newest = known.or_else(|| open.iter().find_map(|(_, head)| *head));
        let is_another = |head: &Head| newest.is_some_and(|of| of.generation != head.generation);
        match glance {
            Glance::Nothing => open.push((segment, None)),
            Glance::Open(head) | Glance::Closed(head, _) if is_another(&head) => break,
            // One that was ready, and that a resume before has closed, and not yet taken away.
            Glance::Open(head) | Glance::Closed(head, None) => open.push((segment, Some(head))),
            Glance::Closed(head, Some(next)) => {
                closed = closed.or(Some((head, next)));
                if behind + 1 >= MOST_OPEN {
                    break;
                }
            }
        }
    }
    Ok((open, closed))
}
