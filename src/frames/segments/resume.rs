//! What a killed recorder has left in its segments, and how the recording goes on.

use std::sync::Arc;

use super::options::{Framing, Options};
use crate::frames;
use crate::frames::cookie::Cookie;
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
    /// The last cookie: see [`flush_with`](super::Writer::flush_with).
    pub cookie: Option<Cookie>,
}

/// The newest segment so far of which it is known.
struct Last {
    number: u64,
    head: Head,
    next: u64,
    cookie: Option<Arc<Cookie>>,
}

impl Last {
    /// What is known with one more, which is newer unless an older one could not be closed.
    fn and(before: Option<Self>, segment: &Segment, head: Head, found: &Recovered) -> Self {
        let (number, next, own) = (segment.sequence, found.next_sequence, &found.cookie);
        let own = own.clone().map(Arc::new);
        match before {
            None => Self { number, head, next, cookie: own },
            Some(last) => Self {
                number: number.max(last.number),
                head,
                next: next.max(last.next),
                cookie: if number > last.number {
                    own.or(last.cookie)
                } else {
                    last.cookie.or(own)
                },
            },
        }
    }
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
            Some(_) => {
                each.finish(&segment.path, last.as_ref().and_then(|it| it.cookie.as_ref()))?
            }
            None => each.recover(&segment.path)?,
        };
        if let Some(head) = head {
            last = Some(Last::and(last, segment, head, &recovered));
        }
        let has_frames = recovered.frames + recovered.missing > 0 || recovered.cookie.is_some();
        match has_frames || recovered.torn.is_some() {
            false => {
                listing.remove(segment)?;
                resumed.removed.push(segment.clone());
            }
            true => resumed.recovered.push((segment.clone(), recovered)),
        }
    }
    resumed.cookie = last.as_ref().and_then(|last| last.cookie.as_deref().cloned());
    Ok((resumed, last.map(|last| Framing::going_on(&last.head, last.next, last.cookie))))
}

/// The segments that have to be recovered, the newest first, with their heads; and the newest one that
/// was closed. Changes nothing.
///
/// Segments are closed in their order; but where one can't be, those that were open beside it are.
#[expect(clippy::type_complexity, reason = "two answers of one walk")]
fn unclosed<'a>(
    segments: &'a [Segment],
    each: &frames::Options,
) -> Result<(Vec<(&'a Segment, Option<Head>)>, Option<Last>), Error> {
    let mut open: Vec<(&Segment, Option<Head>)> = Vec::new();
    let mut closed: Option<Last> = None;
    let mut not_seen = segments.len();
    for (behind, segment) in segments.iter().rev().enumerate() {
        not_seen -= 1;
        let glance = glance(segment, each)?;
        let known = closed.as_ref().map(|last| last.head);
        let newest = known.or_else(|| open.iter().find_map(|(_, head)| *head));
        let is_another = |head: &Head| newest.is_some_and(|of| of.recording != head.recording);
        match glance {
            Glance::Nothing => open.push((segment, None)),
            Glance::Open(head) | Glance::Closed(head, ..) if is_another(&head) => break,
            // One that was ready, and that a resume before has closed, and not yet taken away.
            Glance::Open(head) | Glance::Closed(head, None, _) => open.push((segment, Some(head))),
            Glance::Closed(head, Some(next), cookie) => {
                let number = segment.sequence;
                closed = closed.or(Some(Last { number, head, next, cookie }));
                if behind + 1 >= MOST_OPEN {
                    break;
                }
            }
        }
    }
    // That one may have got the head of the segment that was to be made of it, and no more.
    let oldest = segments.first().filter(|_| not_seen > 0);
    if let (Some(oldest), Some(newest)) = (oldest, &closed)
        && let Glance::Open(head) = glance(oldest, each)?
        && head.recording == newest.head.recording
        && head.generation != head.recording
    {
        open.push((oldest, Some(head)));
    }
    Ok((open, closed))
}

fn glance(segment: &Segment, each: &frames::Options) -> Result<Glance, Error> {
    let locked = Locked::new(each.below(), &segment.path)?;
    recover::glance(&locked.file).map_err(|error| error.of(&segment.path))
}
