//! Sorting networks: which places to compare and exchange, in an order that sorts whatever stands there (Batcher 1968,
//! merge exchange; Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M).

/// The comparisons that sort `count` places: each puts the lesser of two at the lower place.
pub(super) fn network(count: usize) -> Vec<(u8, u8)> {
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
    use super::network;

    /// A network sorts everything if it sorts every sequence of zeros and ones (Knuth 5.3.4Z): all of them for few places.
    #[test]
    fn zeros_and_ones_are_sorted() {
        for count in 0..=16 {
            let pairs = network(count);
            for bits in 0u32..1 << count {
                let mut values: Vec<u32> = (0..count).map(|place| bits >> place & 1).collect();
                for (low, high) in &pairs {
                    let (low, high) = (usize::from(*low), usize::from(*high));
                    if values[low] > values[high] {
                        values.swap(low, high);
                    }
                }
                assert!(values.is_sorted(), "{count} places, {bits:b}");
            }
        }
    }

    #[test]
    fn it_has_as_many_comparisons_as_the_book_says() {
        assert_eq!([2, 4, 16, 32, 64, 128].map(|count| network(count).len()), [1, 5, 63, 191, 543, 1471]);
    }
}
