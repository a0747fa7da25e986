//! Who sits where: a place in a lap (a file, the position in which its subject is opened, warmed
//! up and closed) costs or saves something of its own, so that every arm has to have every one.

use fastrand::Rng;

/// `0..count` in random order.
pub fn shuffled(count: usize, random: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    random.shuffle(&mut all);
    all
}

/// The laps of one block: a Latin square. `laps[lap][slot]` is the arm that holds the slot; in the
/// block every arm holds every slot exactly once, so that what a slot costs cancels in every ratio
/// of two arms. Which rows and columns come first is drawn anew for every block.
pub fn block(arms: usize, random: &mut Rng) -> Vec<Vec<usize>> {
    let (labels, shifts) = (shuffled(arms, random), shuffled(arms, random));
    let lap = |shift: usize| {
        let mut slots = vec![0; arms];
        for (arm, label) in labels.iter().enumerate() {
            slots[(label + shift) % arms] = arm;
        }
        slots
    };
    shifts.into_iter().map(lap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_block_every_arm_holds_every_slot_once() {
        let mut random = Rng::with_seed(3);
        for arms in 1..=23 {
            let laps = block(arms, &mut random);
            assert_eq!(laps.len(), arms);
            for arm in 0..arms {
                let slot = |lap: &Vec<usize>| lap.iter().position(|holder| *holder == arm);
                let mut held: Vec<usize> = laps.iter().map(|lap| slot(lap).unwrap()).collect();
                held.sort_unstable();
                assert_eq!(held, (0..arms).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn blocks_and_neighbouring_seeds_differ() {
        let of = |seed| block(16, &mut Rng::with_seed(seed));
        assert_ne!(of(2), of(3));
        assert_eq!(of(2), of(2));
        let mut random = Rng::with_seed(2);
        assert_ne!(block(16, &mut random), block(16, &mut random));
    }
}
