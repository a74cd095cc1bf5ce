//! Sorting networks by merge exchange (Batcher 1968; Knuth, The Art of Computer Programming, volume
//! 3, algorithm 5.2.2M).

/// Returns the compare-exchange steps that sort `count` values: each moves the smaller of two
/// values to the lower index.
pub(super) fn sorting_network(count: usize) -> Vec<(u8, u8)> {
    let mut pairs = Vec::new();
    if count < 2 {
        return pairs;
    }
    let top = count.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut distance) = (top, 0, p);
        loop {
            for low in 0..count - distance {
                if low & p == r {
                    pairs.push((low as u8, (low + distance) as u8));
                }
            }
            if q == p {
                break;
            }
            (distance, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::sorting_network;

    /// Zero-one principle (Knuth 5.3.4Z): a network that sorts every sequence of zeros and ones
    /// sorts every sequence.
    #[test]
    fn sorts_every_sequence_of_zeros_and_ones() {
        for count in 0..=16 {
            let pairs = sorting_network(count);
            for bits in 0u32..1 << count {
                let mut values: Vec<u32> = (0..count).map(|bit| bits >> bit & 1).collect();
                for (low, high) in &pairs {
                    let (low, high) = (usize::from(*low), usize::from(*high));
                    if values[low] > values[high] {
                        values.swap(low, high);
                    }
                }
                assert!(values.is_sorted(), "{count} values, {bits:b}");
            }
        }
    }

    #[test]
    fn has_the_number_of_comparisons_that_knuth_gives() {
        assert_eq!([2, 4, 16, 32, 64, 128].map(|count| sorting_network(count).len()), [1, 5, 63, 191, 543, 1471]);
    }
}
