//! Dealing out properties by share.

use southbridge_policy::seeded::Seeded;

/// Gives each value its share of `slots`, to the slot, at places that `seeded` draws; the others stay as
/// they are.
pub(crate) fn deal<T: Copy>(seeded: &mut Seeded, slots: &mut [T], shares: &[(T, f64)]) {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, seeded.below(last as u64 + 1) as usize);
    }
    let mut order = order.into_iter();
    for (value, share) in shares {
        let count = (share.clamp(0.0, 1.0) * slots.len() as f64).round() as usize;
        for place in order.by_ref().take(count) {
            slots[place] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_to_the_slot() {
        let mut slots = ['-'; 10];
        deal(&mut Seeded::new(3), &mut slots, &[('a', 0.3), ('b', 0.5)]);
        let count = |value| slots.iter().filter(|slot| **slot == value).count();
        assert_eq!((count('a'), count('b'), count('-')), (3, 5, 2));
    }
}
